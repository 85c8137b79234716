package daemon

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"syscall"

	"github.com/grantexd/grantexd/socketapi/access"
)

const (
	// DefaultConfigFile is read if it exists and no other file is named.
	DefaultConfigFile = "/etc/grantexd/config.yaml"
	// ConfigEnv is the environment variable that names the configuration file.
	ConfigEnv = EnvPrefix + "CONFIG"
	// maxConfigFile is far above any configuration, in bytes.
	maxConfigFile = 256 << 10
)

// LoadOptions say where a configuration comes from. The zero value reads
// [DefaultConfigFile] if there is one, and nothing else, on behalf of root.
type LoadOptions struct {
	// Flags are the values of the flags that were given, by [Key.Flag].
	Flags map[string]string
	// Env is the environment, as os.Environ returns it.
	Env []string
	// File is the configuration file that was asked for, which must exist; ""
	// leaves it to [ConfigEnv], and that to DefaultFile.
	File string
	// DefaultFile is read if it exists and no other is named; "" means
	// [DefaultConfigFile].
	DefaultFile string
	// UID is the user that the daemon runs as, on whom the default paths
	// depend; 0 is root.
	UID int
	// Lookup finds the users and groups that access rules name; nil means the
	// host's database.
	Lookup access.Lookup
}

// Load puts the configuration together: flags over environment over file over
// defaults. An empty environment variable counts as not set, as compose files and
// unit files make them of absent ones. Paths in flags and the environment may be
// relative to the working directory, those in the file may not. The error is a [ConfigErrors] with everything that is wrong, or
// says why the file can't be read.
func Load(o LoadOptions) (*Config, []Warning, error) {
	env := environment(o.Env)
	config := Defaults()
	config.setPaths(func(name string) string { return env[name] }, o.UID)
	l := &loader{config: &config, lookup: o.Lookup, origins: map[string]string{}, failed: map[string]bool{}}
	if err := l.file(o, env[ConfigEnv]); err != nil {
		return nil, nil, err
	}
	l.environment(env)
	l.flags(o.Flags)
	l.relations()
	if len(l.errs) > 0 {
		return nil, l.warnings, l.errs
	}
	l.cautions()
	return &config, l.warnings, nil
}

// environment turns os.Environ into a map, without what is empty.
func environment(list []string) map[string]string {
	env := make(map[string]string, len(list))
	for _, entry := range list {
		if name, value, ok := strings.Cut(entry, "="); ok && value != "" {
			env[name] = value
		}
	}
	return env
}

// loader collects values and mistakes.
type loader struct {
	config  *Config
	origins map[string]string // of keys that were set
	failed  map[string]bool   // keys of which there is a mistake
	errs    ConfigErrors

	lookup   access.Lookup
	warnings []Warning
}

// fail notes a mistake.
func (l *loader) fail(origin, key, problem string) {
	l.errs = append(l.errs, ConfigError{Origin: origin, Key: key, Problem: problem})
	l.failed[key] = true
}

// warn notes what works and should be looked at.
func (l *loader) warn(format string, args ...any) {
	l.warnings = append(l.warnings, Warning{Message: fmt.Sprintf(format, args...)})
}

// set gives a key the value that put puts into its field, if it is a good one.
func (l *loader) set(k *Key, origin string, put func(field reflect.Value) error) {
	field := k.field(l.config)
	value := reflect.New(field.Type()).Elem()
	if err := put(value); err != nil {
		l.fail(origin, k.Name, err.Error())
		return
	}
	if k.check != nil {
		if err := k.check(value.Interface()); err != nil {
			l.fail(origin, k.Name, err.Error())
			return
		}
	}
	if isPath(k.Name) {
		if err := checkPath(value.String()); err != nil {
			l.fail(origin, k.Name, err.Error())
			return
		}
	}
	field.Set(value)
	l.origins[k.Name] = origin
}

// file reads the configuration file, if there is one.
func (l *loader) file(o LoadOptions, fromEnv string) error {
	path, required := cmp.Or(o.File, fromEnv), true
	if path == "" {
		path, required = cmp.Or(o.DefaultFile, DefaultConfigFile), false
	}
	content, err := readConfig(path)
	if !required && errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("the configuration file can't be read: %w", err)
	}
	if info, err := os.Stat(path); err == nil && info.Mode().Perm()&0o002 != 0 {
		l.warn("%s: everybody may write the configuration file: chmod o-w it", path)
	}
	l.yaml(path, content)
	return nil
}

func readConfig(path string) ([]byte, error) {
	// Opening a FIFO would wait for somebody to write to it.
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close() //nolint:errcheck // nothing was written
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%s is no regular file", path)
	}
	content, err := io.ReadAll(io.LimitReader(f, maxConfigFile+1))
	if err != nil {
		return nil, err
	}
	if len(content) > maxConfigFile {
		return nil, fmt.Errorf("%s has more than %d bytes, so it is no configuration of grantexd", path, maxConfigFile)
	}
	return content, nil
}

// environment takes the GRANTEXD_* variables. Unknown ones are no mistake:
// Kubernetes sets GRANTEXD_PORT and others beside a service named grantexd.
func (l *loader) environment(env map[string]string) {
	known := map[string]bool{ConfigEnv: true}
	for i := range keys {
		k := &keys[i]
		from := ""
		for _, name := range k.envNames() {
			known[name] = true
			text, set := env[name]
			switch {
			case set && from == "":
				from = name
				l.setOutside(k, name, text)
			case set && text != env[from]:
				l.fail(name, k.Name, "says something else than "+from+", which means the same: unset one of them")
			}
		}
	}
	l.unknownVariables(env, known)
}

// unknownVariables warns of variables that look as if they were meant for the
// daemon: of misspelt ones each, of the others together.
func (l *loader) unknownVariables(env map[string]string, known map[string]bool) {
	var words, others []string
	for name := range known {
		words = append(words, strings.TrimPrefix(name, EnvPrefix))
	}
	slices.Sort(words) // so that the same one is suggested each time
	for _, name := range slices.Sorted(maps.Keys(env)) {
		word, ours := strings.CutPrefix(name, EnvPrefix)
		if !ours || known[name] {
			continue
		}
		if near := nearest(word, words); near != "" {
			l.warn("the environment variable %s is not one of grantexd's and was ignored; did you mean %s?",
				showVariable(name), EnvPrefix+near)
			continue
		}
		others = append(others, showVariable(name))
	}
	if len(others) > 0 {
		l.warn("environment variables that are not grantexd's were ignored: %s; unset them (Kubernetes sets such ones "+
			"beside a service named grantexd, unless enableServiceLinks is false)", strings.Join(others, ", "))
	}
}

// flags takes the flags.
func (l *loader) flags(flags map[string]string) {
	known := map[string]bool{}
	for i := range keys {
		k := &keys[i]
		known[k.Flag] = true
		if text, ok := flags[k.Flag]; ok {
			l.setOutside(k, "--"+k.Flag, text)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(flags)) {
		if !known[name] {
			l.fail("--"+showName(name), "", "is no flag of the configuration")
		}
	}
}

// setOutside takes a value that does not come from the file. A relative path is
// one from the working directory, as with every command.
func (l *loader) setOutside(k *Key, origin, text string) {
	l.set(k, origin, func(field reflect.Value) error {
		if isPath(k.Name) && text != "" && text[0] != '@' {
			absolute, err := absolutePath(text)
			if err != nil {
				return errors.New("is relative to a directory that is gone: give an absolute path")
			}
			text = absolute
		}
		return setText(field, text)
	})
}

// absolutePath leaves an absolute path as it was written: the path asked for is
// the path used.
func absolutePath(path string) (string, error) {
	if filepath.IsAbs(path) {
		return path, nil
	}
	return filepath.Abs(path)
}

// relations checks what two keys say together.
func (l *loader) relations() {
	for _, r := range [][2]string{ // the first must not be above the second
		{"upstream.attempt-timeout", "upstream.flight-timeout"},
		{"upstream.retry-wait-min", "upstream.retry-wait-max"},
		{"upstream.cooldown-min", "upstream.cooldown-max"},
		{"socket.wait", "socket.max-wait"},
		{"socket.max-connections-per-uid", "socket.max-connections"},
		{"cache.refresh-lead-min", "cache.refresh-lead-max"},
		{"cache.fresh-without-expiry", "cache.stale-without-expiry"},
		{"cache.confirm-lead", "cache.confirm-interval"},
		{"cache.probe-min", "cache.probe-max"},
	} {
		low, high := findKey(r[0]), findKey(r[1])
		if number(low.field(l.config)) > number(high.field(l.config)) {
			l.contradiction(low, high, "above")
		}
	}
	if _, set := l.origins["budget.reserve"]; !set && !l.failed["budget.limit"] {
		// A lowered limit alone takes the reserve down with it.
		l.config.Budget.Reserve = min(l.config.Budget.Reserve, l.config.Budget.Limit*2/5)
	}
	if reserve, limit := findKey("budget.reserve"), findKey("budget.limit"); l.config.Budget.Reserve >= l.config.Budget.Limit {
		l.contradiction(reserve, limit, "as high as")
	}
	if len(l.config.Cache.Prefetch) > l.config.Cache.MaxServices {
		prefetch := findKey("cache.prefetch")
		l.fail(l.origins[prefetch.Name], prefetch.Name, "lists more services than cache.max-services holds")
	}
}

// cautions warns of what works and weakens a promise.
func (l *loader) cautions() {
	c := l.config
	if c.Socket.Mode&0o002 != 0 && c.Access == nil {
		l.warn("%s: socket.mode: everybody on this host may connect and read every credential: use a group, or write access rules",
			l.origins["socket.mode"])
	}
	if c.Access != nil && len(c.Access) == 0 {
		l.warn("%s: access: the list is empty, which lets nobody read anything: add a rule, "+
			"or remove the key to let everybody whom the socket lets in", l.origins[accessKey])
	}
}

// contradiction says of the key that was set that it doesn't go with the other.
func (l *loader) contradiction(low, high *Key, how string) {
	if l.failed[low.Name] || l.failed[high.Name] {
		return // the value that it would be compared with is not the one meant
	}
	if origin, set := l.origins[low.Name]; set {
		l.fail(origin, low.Name, fmt.Sprintf("must not be %s %s, which is %s", how, high.Name, high.Value(l.config)))
		return
	}
	l.fail(l.origins[high.Name], high.Name, fmt.Sprintf("makes %s, which is %s, %s it: set both", low.Name, low.Value(l.config), how))
}

// number returns a duration or a count as a number.
func number(field reflect.Value) int64 { return field.Int() }

// findKey returns the key with this name.
func findKey(name string) *Key {
	i := slices.IndexFunc(keys, func(k Key) bool { return k.Name == name })
	if i < 0 {
		return nil
	}
	return &keys[i]
}
