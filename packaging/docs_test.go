package packaging_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/grantexd/grantexd/daemon"
	"github.com/grantexd/grantexd/socketapi/wire"
)

// top is the root of the repository, as seen from this package.
const top = ".."

// documents are all that is written for users, by path from the root.
func documents(t *testing.T) map[string]string {
	t.Helper()
	files, err := filepath.Glob("docs/*.md")
	require.NoError(t, err)
	require.NotEmpty(t, files)
	all := map[string]string{"README.md": ""}
	for _, file := range files {
		all[filepath.Join("packaging", file)] = ""
	}
	for file := range all {
		all[file] = read(t, file)
	}
	return all
}

// read returns a file of the repository.
func read(t *testing.T, file string) string {
	t.Helper()
	content, err := os.ReadFile(filepath.Join(top, file))
	require.NoError(t, err)
	return string(content)
}

func exists(file string) bool {
	_, err := os.Stat(filepath.Join(top, file))
	return err == nil
}

var (
	inlineCode = regexp.MustCompile("`([^`\n]+)`")
	testName   = regexp.MustCompile(`^(Test|Fuzz)[A-Z]\w*$`)
	goTest     = regexp.MustCompile(`(?m)^func ((?:Test|Fuzz)[A-Z]\w*)\(`)
)

// testsOf returns the names of the tests in a directory.
func testsOf(t *testing.T, directory string) []string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(top, directory, "*_test.go"))
	require.NoError(t, err)
	var names []string
	for _, file := range files {
		content, err := os.ReadFile(file)
		require.NoError(t, err)
		for _, found := range goTest.FindAllStringSubmatch(string(content), -1) {
			names = append(names, found[1])
		}
	}
	return names
}

// A promise of the threat model is worth what holds it: each row names a
// mechanism that is there, and tests of the packages that it says.
func TestThreatModelNamesWhatExists(t *testing.T) {
	_, promises, found := strings.Cut(read(t, "packaging/docs/threat-model.md"), "\n## Promises\n")
	require.True(t, found)
	promises, _, found = strings.Cut(promises, "\n## ")
	require.True(t, found)
	rows := tableRows(promises, "promise")
	require.Greater(t, len(rows), 20)
	for _, row := range rows {
		require.Len(t, row, 3, row)
		for _, file := range pathsIn(row[1]) {
			require.True(t, exists(file), "%s is the mechanism of %q", file, row[0])
		}
		held := 0
		var tests []string
		for _, code := range inlineCode.FindAllStringSubmatch(row[2], -1) {
			name := code[1]
			if testName.MatchString(name) {
				held++
				require.Contains(t, tests, name, "a test of %q", row[0])
				continue
			}
			require.True(t, exists(name), "%s holds %q", name, row[0])
			if ext := filepath.Ext(name); ext == ".sh" || ext == ".txtar" {
				held++
				continue
			}
			tests = testsOf(t, name)
		}
		require.NotZero(t, held, "nothing holds %q", row[0])
	}
}

// pathsIn returns the inline code of a text that looks like a file.
func pathsIn(text string) []string {
	var paths []string
	for _, code := range inlineCode.FindAllStringSubmatch(text, -1) {
		if strings.Contains(code[1], "/") && filepath.Ext(code[1]) != "" {
			paths = append(paths, code[1])
		}
	}
	return paths
}

// tableRows returns the cells of all tables whose first heading is the given one,
// without the headings.
func tableRows(text, heading string) [][]string {
	var rows [][]string
	inside := false
	for line := range strings.SplitSeq(text, "\n") {
		if !strings.HasPrefix(line, "|") {
			inside = false
			continue
		}
		cells := strings.Split(strings.Trim(line, "|"), "|")
		for i := range cells {
			cells[i] = strings.TrimSpace(cells[i])
		}
		switch {
		case cells[0] == heading:
			inside = true
		case inside && strings.Trim(cells[0], "-") != "":
			rows = append(rows, cells)
		}
	}
	return rows
}

var link = regexp.MustCompile(`\]\(([^)\s]+)\)`)

func TestLinksLeadSomewhere(t *testing.T) {
	checked := 0
	for file, content := range documents(t) {
		for _, found := range link.FindAllStringSubmatch(content, -1) {
			target, anchor, _ := strings.Cut(found[1], "#")
			if strings.Contains(target, "://") {
				continue
			}
			checked++
			to := file
			if target != "" {
				to = filepath.Join(filepath.Dir(file), target)
			}
			require.True(t, exists(to), "%s links to %s", file, found[1])
			if anchor != "" {
				require.Contains(t, anchors(read(t, to)), anchor, "%s links to %s", file, found[1])
			}
		}
	}
	require.Greater(t, checked, 10)
}

var notInAnchors = regexp.MustCompile(`[^a-z0-9 _-]`)

// anchors returns what the headings of a document can be linked by.
func anchors(content string) []string {
	var out []string
	for line := range strings.SplitSeq(withoutBlocks(content), "\n") {
		heading := strings.TrimLeft(line, "#")
		if heading == line || !strings.HasPrefix(heading, " ") {
			continue
		}
		anchor := notInAnchors.ReplaceAllString(strings.ToLower(heading[1:]), "")
		out = append(out, strings.ReplaceAll(anchor, " ", "-"))
	}
	return out
}

var block = regexp.MustCompile("(?ms)^ *```(\\w*)\n(.*?)^ *```$")

func withoutBlocks(content string) string { return block.ReplaceAllString(content, "") }

// The table of error codes is the one that the daemon answers by, neither more
// nor less.
func TestErrorCodesAreThoseOfTheWire(t *testing.T) {
	documented := map[string]int{}
	for _, row := range tableRows(read(t, "packaging/docs/api.md"), "code") {
		codes := inlineCode.FindAllStringSubmatch(row[0], -1)
		statuses := strings.Split(row[1], ", ")
		require.Len(t, statuses, len(codes), row)
		for i, code := range codes {
			status, err := strconv.Atoi(statuses[i])
			require.NoError(t, err)
			documented[code[1]] = status
		}
	}
	want := map[string]int{}
	for _, code := range wireCodes(t) {
		want[code] = wire.Code(code).Status()
	}
	require.NotEmpty(t, want)
	require.Equal(t, want, documented)
}

// wireCodes reads the codes from where they are declared: a list made by hand
// would be forgotten where the table was.
func wireCodes(t *testing.T) []string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(top, "socketapi", "wire", "*.go"))
	require.NoError(t, err)
	var codes []string
	for _, name := range files {
		file, err := parser.ParseFile(token.NewFileSet(), name, nil, 0)
		require.NoError(t, err)
		ast.Inspect(file, func(n ast.Node) bool {
			spec, ok := n.(*ast.ValueSpec)
			if !ok {
				return true
			}
			if kind, ok := spec.Type.(*ast.Ident); ok && kind.Name == "Code" {
				code, err := strconv.Unquote(spec.Values[0].(*ast.BasicLit).Value)
				require.NoError(t, err)
				codes = append(codes, code)
			}
			return true
		})
	}
	return codes
}

var (
	keyName  = regexp.MustCompile("`((?:grant|upstream|socket|budget|cache|audit|log|state)\\.[a-z-]+)(?:: [^`]+)?`")
	variable = regexp.MustCompile(`\bGRANTEXD_[A-Z_]*[A-Z]\b`)
)

func TestKeysAndVariablesExist(t *testing.T) {
	var keys []string
	variables := []string{daemon.ConfigEnv}
	for _, k := range daemon.Reference() {
		keys = append(keys, k.Name)
		variables = append(variables, k.Env)
	}
	checked := 0
	for file, content := range documents(t) {
		for _, found := range keyName.FindAllStringSubmatch(content, -1) {
			require.Contains(t, keys, found[1], file)
			checked++
		}
		for _, found := range variable.FindAllString(content, -1) {
			require.Contains(t, variables, found, file)
			checked++
		}
	}
	require.Greater(t, checked, 10)
}

var metric = regexp.MustCompile("`grantexd_([a-z_]+)`")

func TestMetricsAreThoseOfTheDaemon(t *testing.T) {
	var documented, want []string
	for _, found := range metric.FindAllStringSubmatch(read(t, "packaging/docs/operate.md"), -1) {
		documented = append(documented, found[1])
	}
	for _, found := range regexp.MustCompile(`desc\("([a-z_]+)"`).FindAllStringSubmatch(read(t, "daemon/metrics.go"), -1) {
		want = append(want, found[1])
	}
	require.NotEmpty(t, want)
	require.ElementsMatch(t, want, documented)
}

// What operators are told to look for is what the program says.
func TestFailuresAreInTheWordsOfTheProgram(t *testing.T) {
	said := sources(t)
	operate := read(t, "packaging/docs/operate.md")
	rows := append(tableRows(operate, "status line"), tableRows(operate, "error")...)
	require.Greater(t, len(rows), 15)
	for _, row := range rows {
		// The last cell says what to do.
		for _, code := range inlineCode.FindAllStringSubmatch(strings.Join(row[:len(row)-1], " "), -1) {
			text := strings.TrimSuffix(code[1], " …")
			if notOurs[text] {
				continue
			}
			require.Contains(t, said, text)
		}
	}
}

// notOurs are the words of the service manager and such as stand for a value.
var notOurs = map[string]bool{
	"Serving": true, "code=exited, status=1": true, "code=exited, status=2": true, "Watchdog timeout": true,
	"state=withdrawn": true, "grantexd: /etc/grantexd/config.yaml:LINE:COLUMN:": true,
}

// sources returns all that the program can say: its code without its tests, with
// strings that are written in pieces joined.
func sources(t *testing.T) string {
	t.Helper()
	var all strings.Builder
	err := filepath.WalkDir(top, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() || filepath.Ext(path) != ".go" || strings.HasSuffix(path, "_test.go") {
			return err
		}
		content, err := os.ReadFile(path)
		all.Write(content)
		return err
	})
	require.NoError(t, err)
	return regexp.MustCompile(`" \+\s*"`).ReplaceAllString(all.String(), "")
}

// Every command of ours in a document is one that the program has, with the flags
// that it takes.
func TestCommandsExist(t *testing.T) {
	program := filepath.Join(t.TempDir(), "grantexd")
	build := exec.Command("go", "build", "-buildvcs=false", "-o", program, "./cmd/grantexd")
	build.Dir = top
	output, err := build.CombinedOutput()
	require.NoError(t, err, string(output))
	help := helper(t, program)
	checked := 0
	for file, content := range documents(t) {
		for _, words := range commands(content) {
			checkCommand(t, help, file, words)
			checked++
		}
	}
	require.Greater(t, checked, 15)
}

// helper returns what the program says of a command, for each asked once.
func helper(t *testing.T, program string) func(words ...string) string {
	said := map[string]string{}
	return func(words ...string) string {
		t.Helper()
		key := strings.Join(words, " ")
		if _, known := said[key]; !known {
			output, err := exec.Command(program, words...).CombinedOutput()
			require.NoError(t, err, "grantexd %s: %s", key, output)
			said[key] = string(output)
		}
		return said[key]
	}
}

func checkCommand(t *testing.T, help func(...string) string, file string, words []string) {
	t.Helper()
	if words[0] == "help" {
		require.Len(t, words, 2, words)
		// Of a topic that it does not have it says what it says of itself.
		require.NotEqual(t, help("--help"), help(words...), "%s: grantexd %s", file, strings.Join(words, " "))
		return
	}
	command, text := words[:1], help(words[0], "--help")
	if strings.Contains(text, "Available Commands") || strings.Contains(text, "grantexd "+words[0]+" [command]") {
		if len(words) > 1 && !strings.HasPrefix(words[1], "-") {
			command, text = words[:2], help(words[0], words[1], "--help")
		}
	}
	path := "grantexd " + strings.Join(command, " ")
	require.Regexp(t, `(?m)^  `+path+`( |$)`, text, "%s: %s is no command", file, path)
	for _, word := range words[len(command):] {
		if word == "--" {
			break
		}
		if flag, _, _ := strings.Cut(word, "="); strings.HasPrefix(flag, "--") {
			require.Regexp(t, regexp.QuoteMeta(flag)+`\b`, text+keyFlags(), "%s: %s has no %s", file, path, flag)
		}
	}
}

// keyFlags are the flags of all keys of the configuration, most of which help
// does not show.
func keyFlags() string {
	var flags []string
	for _, k := range daemon.Reference() {
		flags = append(flags, "--"+k.Flag)
	}
	return strings.Join(flags, " ")
}

// commands returns the words after "grantexd" wherever a document calls it: in
// inline code, and in blocks of commands.
func commands(content string) [][]string {
	var lines []string
	for _, found := range inlineCode.FindAllStringSubmatch(withoutBlocks(content), -1) {
		lines = append(lines, found[1])
	}
	for _, found := range block.FindAllStringSubmatch(content, -1) {
		if found[1] == "sh" || found[1] == "console" {
			lines = append(lines, strings.Split(strings.ReplaceAll(found[2], "\\\n", " "), "\n")...)
		}
	}
	var all [][]string
	for _, line := range lines {
		words := strings.Fields(line)
		for i, word := range words {
			if i+1 < len(words) && isProgram(words[:i], word) && regexp.MustCompile(`^[a-z]+$`).MatchString(words[i+1]) {
				all = append(all, untilShell(words[i+1:]))
			}
		}
	}
	return all
}

// isProgram reports whether a word of a command line is the program and no name
// of a unit, a user or an image.
func isProgram(before []string, word string) bool {
	if strings.HasSuffix(word, "/bin/grantexd") || strings.HasSuffix(word, "/cmd/grantexd") {
		return true
	}
	if word != "grantexd" {
		return false
	}
	if len(before) == 0 {
		return true
	}
	last := before[len(before)-1]
	if len(before) >= 2 && before[len(before)-2] == "-u" && slices.Contains(before, "sudo") {
		return true
	}
	return slices.Contains([]string{"$", "#", "sudo", "&&", "||", "|", "--", "env"}, last) ||
		regexp.MustCompile(`^[A-Z_]+=`).MatchString(last)
}

// untilShell cuts a command off where the shell takes over again.
func untilShell(words []string) []string {
	if i := slices.IndexFunc(words, func(w string) bool { return w == "&&" || w == "|" || w == "#" || w == ">" }); i >= 0 {
		return words[:i]
	}
	return words
}
