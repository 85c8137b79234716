package daemon

import (
	"bytes"
	"encoding/json"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestMistakesInTheFile(t *testing.T) {
	long := "/" + strings.Repeat("s", maxSocketPath-1)
	for name, tc := range map[string]struct {
		content string
		want    string // "" for none
	}{
		"unknown key":              {"grant:\n  fil: /x\n", "c.yaml:2:3: grant.fil: is not a key of grantexd; did you mean grant.file?"},
		"unknown key, none near":   {"grant:\n  colour: red\n", "c.yaml:2:3: grant.colour: is not a key of grantexd"},
		"unknown group":            {"grand:\n  file: /x\n", "c.yaml:1:1: grand: is not a key of grantexd; did you mean grant?"},
		"key of another group":     {"socket:\n  file: /x\n", "c.yaml:2:3: socket.file: is not a key of grantexd; did you mean"},
		"key without its group":    {"grant-file: /x\n", "did you mean grant.file?"},
		"twice":                    {"log:\n  level: info\n  level: warn\n", "c.yaml:3:3: log.level: is there twice, first in line 2: remove one"},
		"group twice":              {"log:\n  level: info\nlog:\n  format: text\n", "c.yaml:3:1: log: is there twice, first in line 1"},
		"no value":                 {"grant:\n  file:\n", "grant.file: has no value: give one, or remove the line"},
		"list for a value":         {"grant:\n  file: [/x]\n", "c.yaml:2:9: grant.file: must be a single value"},
		"value for a list":         {"cache:\n  prefetch: github\n", "cache.prefetch: must be a list, for example [a, b]"},
		"value for a group":        {"grant: /x\n", "grant: must hold keys"},
		"number without a unit":    {"grant:\n  poll: 30\n", `c.yaml:2:9: grant.poll: has no unit: write one, for example "30s", "5m" or "1h"`},
		"duration in words":        {"grant:\n  poll: soon\n", "grant.poll: is no duration"},
		"duration below":           {"grant:\n  poll: 999ms\n", "grant.poll: must be from 1s to 1h"},
		"duration lowest":          {"grant:\n  poll: 1s\n", ""},
		"duration highest":         {"grant:\n  poll: 1h\n", ""},
		"duration above":           {"grant:\n  poll: 1h1s\n", "grant.poll: must be from 1s to 1h"},
		"limit zero":               {"budget:\n  limit: 0\n", "budget.limit: must be from 1 to 20"},
		"limit highest":            {"budget:\n  limit: 20\n", ""},
		"limit above":              {"budget:\n  limit: 21\n", "budget.limit: must be from 1 to 20"},
		"limit no number":          {"budget:\n  limit: many\n", "budget.limit: must be a whole number"},
		"limit in parts":           {"budget:\n  limit: 1.5\n", "budget.limit: must be a whole number"},
		"limit beyond all":         {"budget:\n  limit: 99999999999999999999\n", "budget.limit: must be a whole number"},
		"fraction not a number":    {"cache:\n  refresh-fraction: .nan\n", "cache.refresh-fraction: must be"},
		"fraction highest":         {"cache:\n  refresh-fraction: 0.5\n", ""},
		"fraction above":           {"cache:\n  refresh-fraction: 0.51\n", "cache.refresh-fraction: must be from 0.01 to 0.5"},
		"neither true nor false":   {"grant:\n  strict: yes\n", "grant.strict: must be true or false"},
		"mode unquoted":            {"socket:\n  mode: 0660\n", ""},
		"mode not octal":           {"socket:\n  mode: \"0680\"\n", "socket.mode: is no mode: write it in octal"},
		"mode with more bits":      {"socket:\n  mode: \"01660\"\n", "socket.mode: must be permissions only"},
		"mode that locks out":      {"socket:\n  mode: \"0060\"\n", "socket.mode: must let the daemon's own user"},
		"relative path":            {"grant:\n  file: grant\n", "c.yaml:2:9: grant.file: must be an absolute path"},
		"socket longest":           {"socket:\n  path: " + long + "\n", ""},
		"socket too long":          {"socket:\n  path: " + long + "s\n", "socket.path: has 108 bytes, and a socket's path at most 107: choose a shorter one"},
		"abstract socket":          {"socket:\n  path: \"@grantexd\"\n", "socket.path: is an abstract socket"},
		"socket is a directory":    {"socket:\n  path: /run/x/\n", "socket.path: is a directory"},
		"upstream http":            {"upstream:\n  url: http://vault.test\n", "upstream.url: must be https"},
		"upstream http loopback":   {"upstream:\n  url: http://127.0.0.1:8\n", ""},
		"upstream no address":      {"upstream:\n  url: vault\n", "upstream.url: must be https://host[:port][/prefix]"},
		"listen on all":            {"socket:\n  listen-tcp: 0.0.0.0:8\n", "socket.listen-tcp: must be a loopback address"},
		"listen on a name":         {"socket:\n  listen-tcp: example.test:8\n", "socket.listen-tcp: must be a loopback address"},
		"listen without a port":    {"socket:\n  listen-tcp: 127.0.0.1\n", "socket.listen-tcp: must be host:port"},
		"listen port above":        {"socket:\n  listen-tcp: 127.0.0.1:65536\n", "socket.listen-tcp: must end in a port"},
		"listen port highest":      {"socket:\n  listen-tcp: \"[::1]:65535\"\n", ""},
		"log level":                {"log:\n  level: wran\n", "log.level: must be one of debug, info, warn, error; did you mean warn?"},
		"log format":               {"log:\n  format: xml\n", "log.format: must be one of text, json"},
		"min above max":            {"upstream:\n  cooldown-min: 2m\n", "c.yaml:2:17: upstream.cooldown-min: must not be above upstream.cooldown-max, which is 1m"},
		"max below min":            {"socket:\n  max-wait: 9s\n", "socket.max-wait: makes socket.wait, which is 10s, above it: set both"},
		"min is max":               {"socket:\n  max-wait: 10s\n", ""},
		"reserve as high as limit": {"budget:\n  limit: 8\n  reserve: 8\n", "budget.reserve: must not be as high as budget.limit, which is 8"},
		"reserve just below":       {"budget:\n  limit: 9\n  reserve: 8\n", ""},
		"prefetch no service":      {"cache:\n  prefetch: [github, \"a b\"]\n", "cache.prefetch: entry 2 is no name of a service"},
		"prefetch twice":           {"cache:\n  prefetch: [github, github]\n", "cache.prefetch: entry 2 is there twice"},
		"prefetch too many":        {"cache:\n  prefetch: [a, b]\n  max-services: 1\n", "cache.prefetch: lists more services than cache.max-services holds"},
		"control character":        {"grant:\n  file: \"/a\\nb\"\n", "grant.file: holds a control character"},
		"access without rules":     {"access:\n", "access: must be a list of rules, each with a dash"},
		"rule without services":    {"access:\n- users: [agent]\n", "c.yaml:2:8: access[1]: services are missing"},
		"rule for nobody":          {"access:\n- services: [a]\n", "access[1]: no caller is named"},
		"unknown user":             {"access:\n- users: [nobody-knows]\n  services: [a]\n", "access[1]: user \"nobody-knows\" can't be found in the user database"},
		"unknown second group":     {"access:\n- groups: [0]\n  services: [a]\n- groups: [_nobody-knows2]\n  services: [a]\n", "access[2]: group \"_nobody-knows2\" can't be found"},
		"no name of a user":        {"access:\n- users: [Canary]\n  services: [a]\n", "access[1]: user \"…\" can't be found"},
		"name of 32 letters":       {"access:\n- users: [" + strings.Repeat("x", 32) + "]\n  services: [a]\n", "user \"" + strings.Repeat("x", 32) + "\" can't"},
		"name of 33 letters":       {"access:\n- users: [" + strings.Repeat("x", 33) + "]\n  services: [a]\n", "user \"…\" can't"},
		"misspelt key of a rule":   {"access:\n- user: [agent]\n  services: [a]\n", "c.yaml:2:3: access[1].user: is not a key of a rule; did you mean users?"},
		"two rules of one name":    {"access:\n- {name: a, anyone: true, services: [a]}\n- {name: a, anyone: true, services: [b]}\n", "access[2]: has the name of another rule"},
		"anchor":                   {"grant:\n  file: &x /x\n", "grant.file: must be a plain value, without anchors"},
		"alias":                    {"log:\n  level: info\naudit: *l\n", "must hold keys"},
		"merge":                    {"log:\n  <<: {level: info}\n", "log: holds a key that is no plain word"},
		"two documents":            {"log: {level: info}\n---\nlog: {level: info}\n", "is a second document: write one only"},
		"no YAML":                  {"grant:\n\tfile: /x\n", "c.yaml:2:1: is not YAML here"},
		"a bare word":              {"hello\n", "must hold keys"},
		"binary":                   {"\xff\xfe", "c.yaml: is not UTF-8 text"},
	} {
		t.Run(name, func(t *testing.T) {
			_, _, err := load(t, tc.content)
			if tc.want == "" {
				require.NoError(t, err)
				return
			}
			require.ErrorContains(t, err, tc.want)
			require.NotContains(t, err.Error(), "\n", "one mistake is one line")
		})
	}
}

func TestAllMistakesAreToldAtOnce(t *testing.T) {
	path := filepath.Join(t.TempDir(), "c.yaml")
	require.NoError(t, os.WriteFile(path, []byte("grant:\n  poll: 5\n  strict: maybe\nlogs: {}\nupstream: {url: ftp://x}\n"), 0o600))
	_, _, err := Load(LoadOptions{
		File: path, Env: []string{"GRANTEXD_SOCKET_MODE=rw"}, Flags: map[string]string{"log-level": "loud", "nonsense": "1"},
	})
	lines := strings.Split(err.Error(), "\n")
	require.Len(t, lines, 7)
	for i, prefix := range []string{
		path + ":2:9: grant.poll: ", path + ":3:11: grant.strict: ", path + ":4:1: logs: ", path + ":5:17: upstream.url: ",
		"GRANTEXD_SOCKET_MODE: socket.mode: ", "--log-level: log.level: ", "--nonsense: ",
	} {
		require.Truef(t, strings.HasPrefix(lines[i], prefix), "%q should begin with %q", lines[i], prefix)
	}
}

func TestEnvironment(t *testing.T) {
	for name, tc := range map[string]struct {
		env           []string
		errs, warning string
	}{
		"both names alike":       {[]string{"GRANTEXD_UPSTREAM=https://a.test", "GRANTEXD_UPSTREAM_URL=https://a.test"}, "", ""},
		"both names, unlike":     {[]string{"GRANTEXD_UPSTREAM=https://a.test", "GRANTEXD_UPSTREAM_URL=https://b.test"}, "GRANTEXD_UPSTREAM_URL: upstream.url: says something else than GRANTEXD_UPSTREAM", ""},
		"misspelt":               {[]string{"GRANTEXD_GRANTFILE=/x"}, "", "GRANTEXD_GRANTFILE is not one of grantexd's and was ignored; did you mean GRANTEXD_GRANT_FILE?"},
		"Kubernetes":             {[]string{"GRANTEXD_PORT=tcp://10.0.0.1:80", "GRANTEXD_PORT_80_TCP=x", "GRANTEXD_SERVICE_HOST=10.0.0.1"}, "", "ignored: GRANTEXD_PORT, GRANTEXD_PORT_80_TCP, GRANTEXD_SERVICE_HOST;"},
		"somebody else's":        {[]string{"GRANTEX_API_KEY=k", "PATH=/bin"}, "", ""},
		"a name that is a token": {[]string{"GRANTEXD_ghp_0123=x"}, "", "ignored: (one that is not shown"},
	} {
		t.Run(name, func(t *testing.T) {
			_, warnings, err := Load(LoadOptions{Env: tc.env, DefaultFile: "/nonexistent/c.yaml"})
			if tc.errs != "" {
				require.ErrorContains(t, err, tc.errs)
				return
			}
			require.NoError(t, err)
			if tc.warning == "" {
				require.Empty(t, warnings)
				return
			}
			require.Len(t, warnings, 1)
			require.Contains(t, warnings[0].Message, tc.warning)
		})
	}
}

func TestWarnings(t *testing.T) {
	for content, want := range map[string]string{
		"socket: {mode: 0660}\n": "",
		"socket: {mode: 0666}\n": "socket.mode: everybody on this host may connect",
		"socket: {mode: 0666}\naccess: [{anyone: true, services: [a]}]\n": "",
	} {
		_, warnings, err := load(t, content)
		require.NoError(t, err)
		if want == "" {
			require.Empty(t, warnings, content)
			continue
		}
		require.Len(t, warnings, 1)
		require.Contains(t, warnings[0].Message, want)
	}
	path := filepath.Join(t.TempDir(), "c.yaml")
	require.NoError(t, os.WriteFile(path, nil, 0o600))
	require.NoError(t, os.Chmod(path, 0o606))
	_, warnings, err := Load(LoadOptions{File: path})
	require.NoError(t, err)
	require.Equal(t, []Warning{{path + ": everybody may write the configuration file: chmod o-w it"}}, warnings)
}

// canaries are secrets of every kind that somebody could put anywhere.
var canaries = []string{
	"eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJjYW5hcnkifQ.c2lnbmF0dXJl", "ghp_c4n4ryC4n4ryC4n4ryC4n4ryC4n4ry", "gx_live_c4n4ry99",
	"xoxb-1-c4n4ry", "hunter2", "https://user:c4n4ry@vault.test", "http://c4n4ry.test", "12345678", "correct horse c4n4ry",
}

// inMemory is Load of a file that is not on a disk, for thousands of them.
func inMemory(content string) ([]Warning, error) {
	config := Defaults()
	config.setPaths(func(string) string { return "" }, 0)
	l := &loader{config: &config, lookup: users{}, origins: map[string]string{}, failed: map[string]bool{}}
	l.yaml("c.yaml", []byte(content))
	l.relations()
	l.cautions()
	if len(l.errs) == 0 {
		return l.warnings, nil
	}
	return l.warnings, l.errs
}

func TestNoValueIsEverTold(t *testing.T) {
	var everything bytes.Buffer
	say := func(warnings []Warning, err error) {
		if err != nil {
			everything.WriteString(err.Error() + "\n")
		}
		for _, w := range warnings {
			everything.WriteString(w.Message + "\n")
		}
	}
	for _, canary := range canaries {
		quoted, err := json.Marshal(canary)
		require.NoError(t, err)
		for _, k := range Reference() {
			group, leaf, _ := strings.Cut(k.Name, ".")
			for _, value := range []string{string(quoted), canary, "[" + string(quoted) + "]", "{a: " + canary + "}", "&a " + canary, "\t" + canary, `"` + canary} {
				say(inMemory(group + ":\n  " + leaf + ": " + value + "\n"))
			}
			_, warnings, err := Load(LoadOptions{Env: []string{k.Env + "=" + canary}, Flags: map[string]string{k.Flag: canary}})
			say(warnings, err)
		}
		for _, content := range []string{
			canary, canary + ": x", "grant:\n  " + canary + ": x", "- " + canary, "access: " + canary, "access: [" + string(quoted) + "]",
			"access: [{users: [" + string(quoted) + "], groups: [" + string(quoted) + "], units: [" + string(quoted) + "], principals: [" +
				string(quoted) + "], services: [" + string(quoted) + "], name: " + string(quoted) + ", anyone: true}]",
			"access: [{" + string(quoted) + ": x}]",
		} {
			say(inMemory(content))
		}
	}
	require.NotEmpty(t, everything.String())
	for _, canary := range canaries {
		require.NotContains(t, everything.String(), canary)
	}
	require.NotContains(t, everything.String(), "c4n4ry")
}

func TestNearest(t *testing.T) {
	words := []string{"grant.file", "warn", "socket.path"}
	for word, want := range map[string]string{
		"grant.fil": "grant.file", "grant_file": "grant.file", "grantfile": "grant.file", "wran": "warn", "wrn": "warn", "WARN": "warn", "xyz": "", "": "",
		"sockets.paths": "socket.path", "sockets.pathes": "", strings.Repeat("a", 1000): "",
	} {
		require.Equal(t, want, nearest(word, words), word)
	}
}

func TestLogger(t *testing.T) {
	var b bytes.Buffer
	level := new(slog.LevelVar)
	log := NewLogger(&b, LogConfig{Level: "warn", Format: "json"}, level)
	log.Info("not said")
	log.Warn("said", "a_key", 1)
	var line map[string]any
	require.NoError(t, json.Unmarshal(b.Bytes(), &line))
	require.Equal(t, "said", line["msg"])
	level.Set(slog.LevelDebug)
	b.Reset()
	log.Debug("now said")
	require.Contains(t, b.String(), "now said")

	b.Reset()
	NewLogger(&b, LogConfig{Level: "info", Format: "text"}, nil).Info("plain")
	require.Contains(t, b.String(), "level=INFO msg=plain")
}
