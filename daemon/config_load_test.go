package daemon

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/grantexd/grantexd/socketapi/access"
)

// users is a user database of one user and one group.
type users struct{}

func (users) UID(name string) (uint32, error) {
	if name == "agent" {
		return 1001, nil
	}
	return 0, errors.New("user: unknown user " + name)
}

func (users) GID(name string) (uint32, error) {
	if name == "agents" {
		return 2001, nil
	}
	return 0, errors.New("group: unknown group " + name)
}

// load loads a configuration file with this content.
func load(t testing.TB, content string) (*Config, []Warning, error) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "c.yaml")
	require.NoError(t, os.WriteFile(path, []byte(content), 0o600))
	c, warnings, err := Load(LoadOptions{File: path, Lookup: users{}})
	return c, warnings, withoutDir(err, filepath.Dir(path)+"/")
}

// withoutDir removes a directory from an error's text.
func withoutDir(err error, dir string) error {
	if err == nil {
		return nil
	}
	return errors.New(strings.ReplaceAll(err.Error(), dir, ""))
}

func TestLoadWithoutAnythingGivesTheDefaults(t *testing.T) {
	c, warnings, err := Load(LoadOptions{DefaultFile: filepath.Join(t.TempDir(), "none.yaml")})
	require.NoError(t, err)
	require.Empty(t, warnings)
	want := Defaults()
	want.Grant.File, want.Socket.Path, want.State.Dir = "/etc/grantexd/grant", "/run/grantexd/grantexd.sock", "/var/lib/grantexd"
	require.Equal(t, &want, c)
	require.Equal(t, Mode(0o600), c.Socket.Mode)
	require.Nil(t, c.Access, "no rules and an empty list differ")
}

func TestEveryKeyCanBeSetByFileEnvironmentAndFlag(t *testing.T) {
	values := map[string]string{
		unitDuration: "47s", unitCount: "7", unitBytes: "2048", unitFraction: "0.3", unitSwitch: "true", unitPath: "/some/where",
		unitMode: "0640", unitText: "word", unitList: "one,two",
	}
	special := map[string]string{
		"upstream.url": "https://vault.test", "socket.listen-tcp": "127.0.0.1:7", "log.level": "error", "log.format": "json",
		// Each alone must agree with the defaults of its neighbours.
		"upstream.attempt-timeout": "9s", "upstream.flight-timeout": "30s", "upstream.retry-wait-min": "300ms",
		"upstream.retry-wait-max": "400ms", "upstream.cooldown-max": "2m", "grant.debounce": "1s", "grant.settle": "1s",
		"socket.wait": "9s", "socket.max-wait": "50s", "socket.max-connections": "5000", "budget.window": "2m",
		"cache.confirm-lead": "5s", "cache.fresh-without-expiry": "6m", "cache.stale-without-expiry": "2h", "cache.probe-max": "11m",
		"grant.poll": "47s", "cache.remember-forbidden": "6m", "budget.max-block": "9m", "cache.confirm-interval": "7m",
		"cache.refresh-lead-max": "6m", "budget.limit": "19",
	}
	for _, k := range Reference() {
		t.Run(k.Name, func(t *testing.T) {
			text := special[k.Name]
			if text == "" {
				text = values[k.Unit]
			}
			require.NotEmpty(t, text, "unit %s", k.Unit)
			inFile := text
			if k.Unit == unitList {
				inFile = "[" + text + "]"
			}
			group, leaf, _ := strings.Cut(k.Name, ".")
			file := filepath.Join(t.TempDir(), "c.yaml")
			require.NoError(t, os.WriteFile(file, fmt.Appendf(nil, "%s:\n  %s: %s\n", group, leaf, inFile), 0o600))
			none := filepath.Join(t.TempDir(), "none")
			for from, o := range map[string]LoadOptions{
				"file":        {File: file},
				"environment": {DefaultFile: none, Env: []string{k.Env + "=" + text}},
				"flag":        {DefaultFile: none, Flags: map[string]string{k.Flag: text}},
			} {
				c, _, err := Load(o)
				require.NoError(t, err, from)
				require.Equal(t, text, k.Value(c), from)
				defaults, _, err := Load(LoadOptions{DefaultFile: none})
				require.NoError(t, err)
				require.NotEqual(t, text, k.Value(defaults), "the value must differ from the default to show anything")
			}
		})
	}
}

func TestTheTableCoversTheConfigAndNamesNothingTwice(t *testing.T) {
	var fields []string
	config := reflect.TypeFor[Config]()
	for group := range config.Fields() {
		if group.Type.Kind() != reflect.Struct {
			require.Equal(t, accessKey, group.Tag.Get("yaml"))
			continue
		}
		for f := range group.Type.Fields() {
			fields = append(fields, group.Tag.Get("yaml")+"."+f.Tag.Get("yaml"))
		}
	}
	var names []string
	once := map[string]bool{}
	for _, k := range Reference() {
		names = append(names, k.Name)
		for _, name := range append([]string{k.Name, "--" + k.Flag}, k.envNames()...) {
			require.False(t, once[name], "%s is there twice", name)
			once[name] = true
		}
		require.NotEmpty(t, k.Meaning)
		require.NotContains(t, k.Meaning[len(k.Meaning)-1:], ".")
		if k.Name != "socket.listen-tcp" {
			require.NotEmpty(t, k.Default, k.Name)
		}
	}
	require.ElementsMatch(t, fields, names)
}

func TestNamesThatScriptsRelyOn(t *testing.T) {
	for name, want := range map[string][2]string{
		"grant.file":        {"grant-file", "GRANTEXD_GRANT_FILE"},
		"upstream.url":      {"upstream", "GRANTEXD_UPSTREAM"},
		"socket.path":       {"socket", "GRANTEXD_SOCKET"},
		"socket.mode":       {"socket-mode", "GRANTEXD_SOCKET_MODE"},
		"socket.group":      {"socket-group", "GRANTEXD_SOCKET_GROUP"},
		"socket.listen-tcp": {"listen-tcp", "GRANTEXD_LISTEN_TCP"},
		"state.dir":         {"state-dir", "GRANTEXD_STATE_DIR"},
		"log.level":         {"log-level", "GRANTEXD_LOG_LEVEL"},
		"log.format":        {"log-format", "GRANTEXD_LOG_FORMAT"},
		"cache.prefetch":    {"prefetch", "GRANTEXD_PREFETCH"},
	} {
		k := findKey(name)
		require.NotNil(t, k, name)
		require.Equal(t, want, [2]string{k.Flag, k.Env})
	}
}

func TestFlagsOverEnvironmentOverFile(t *testing.T) {
	file := filepath.Join(t.TempDir(), "c.yaml")
	require.NoError(t, os.WriteFile(file, []byte("log: {level: debug}\ngrant: {file: /file}\nstate: {dir: /file}\n"), 0o600))
	c, warnings, err := Load(LoadOptions{
		File:  file,
		Env:   []string{"GRANTEXD_GRANT_FILE=/env", "GRANTEXD_STATE_DIR=/env", "GRANTEXD_SOCKET="},
		Flags: map[string]string{"state-dir": "/flag"},
	})
	require.NoError(t, err)
	require.Empty(t, warnings)
	require.Equal(t, "debug", c.Log.Level)
	require.Equal(t, "/env", c.Grant.File)
	require.Equal(t, "/flag", c.State.Dir)
	require.Equal(t, "/run/grantexd/grantexd.sock", c.Socket.Path, "an empty variable is none")
}

func TestWhichFileIsRead(t *testing.T) {
	dir := t.TempDir()
	write := func(name, level string) string {
		path := filepath.Join(dir, name)
		require.NoError(t, os.WriteFile(path, []byte("log: {level: "+level+"}\n"), 0o600))
		return path
	}
	flag, env, fallback := write("flag", "error"), write("env", "warn"), write("default", "debug")
	for name, tc := range map[string]struct {
		o    LoadOptions
		want string
	}{
		"the flag's":        {LoadOptions{File: flag, Env: []string{"GRANTEXD_CONFIG=" + env}, DefaultFile: fallback}, "error"},
		"the environment's": {LoadOptions{Env: []string{"GRANTEXD_CONFIG=" + env}, DefaultFile: fallback}, "warn"},
		"the default":       {LoadOptions{DefaultFile: fallback}, "debug"},
		"none":              {LoadOptions{DefaultFile: filepath.Join(dir, "none")}, "info"},
	} {
		t.Run(name, func(t *testing.T) {
			c, _, err := Load(tc.o)
			require.NoError(t, err)
			require.Equal(t, tc.want, c.Log.Level)
		})
	}
}

func TestFilesThatCanNotBeRead(t *testing.T) {
	dir := t.TempDir()
	large := filepath.Join(dir, "large")
	require.NoError(t, os.WriteFile(large, []byte(strings.Repeat("#", maxConfigFile+1)), 0o600))
	full := filepath.Join(dir, "full")
	require.NoError(t, os.WriteFile(full, []byte(strings.Repeat("#", maxConfigFile)), 0o600))
	for path, want := range map[string]string{
		filepath.Join(dir, "none"): "no such file",
		dir:                        "no regular file",
		"/dev/null":                "no regular file",
		large:                      "more than 262144 bytes",
	} {
		_, _, err := Load(LoadOptions{File: path})
		require.ErrorContains(t, err, want)
		_, _, err = Load(LoadOptions{Env: []string{"GRANTEXD_CONFIG=" + path}})
		require.ErrorContains(t, err, want)
	}
	_, _, err := Load(LoadOptions{File: full})
	require.NoError(t, err)
}

func TestDefaultPaths(t *testing.T) {
	const system, systemState, systemGrant = "/run/grantexd/grantexd.sock", "/var/lib/grantexd", "/etc/grantexd/grant"
	for name, tc := range map[string]struct {
		uid                  int
		env                  []string
		socket, state, grant string
	}{
		"root": {0, []string{"XDG_RUNTIME_DIR=/run/user/0", "XDG_STATE_HOME=/s", "XDG_CONFIG_HOME=/c", "HOME=/root"}, system, systemState, systemGrant},
		"a user": {1000, []string{"XDG_RUNTIME_DIR=/run/user/1000", "HOME=/home/u"}, "/run/user/1000/grantexd/grantexd.sock",
			"/home/u/.local/state/grantexd", "/home/u/.config/grantexd/grant"},
		"a user with homes for all": {1000, []string{"XDG_RUNTIME_DIR=/r", "XDG_STATE_HOME=/s", "XDG_CONFIG_HOME=/c", "HOME=/home/u"},
			"/r/grantexd/grantexd.sock", "/s/grantexd", "/c/grantexd/grant"},
		"relative ones are ignored": {1000, []string{"XDG_RUNTIME_DIR=r", "XDG_STATE_HOME=s", "XDG_CONFIG_HOME=c", "HOME=h",
			"RUNTIME_DIRECTORY=x", "STATE_DIRECTORY=y"}, system, systemState, systemGrant},
		"a container without anything": {65532, []string{"HOME=/"}, system, systemState, systemGrant},
		"a service": {990, []string{"RUNTIME_DIRECTORY=/run/gx", "STATE_DIRECTORY=/var/lib/gx:/var/lib/other", "HOME=/"},
			"/run/gx/grantexd.sock", "/var/lib/gx", systemGrant},
		"a service of root": {0, []string{"RUNTIME_DIRECTORY=/run/gx:/run/other"}, "/run/gx/grantexd.sock", systemState, systemGrant},
	} {
		t.Run(name, func(t *testing.T) {
			c, _, err := Load(LoadOptions{UID: tc.uid, Env: tc.env, DefaultFile: "/nonexistent/c.yaml"})
			require.NoError(t, err)
			require.Equal(t, tc.socket, c.Socket.Path)
			require.Equal(t, tc.state, c.State.Dir)
			require.Equal(t, tc.grant, c.Grant.File)
		})
	}
}

func TestGrantFromTheServiceManagersCredentials(t *testing.T) {
	dir := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(dir, "grant"), nil, 0o600))
	c, _, err := Load(LoadOptions{Env: []string{"CREDENTIALS_DIRECTORY=" + dir}, DefaultFile: "/nonexistent/c.yaml"})
	require.NoError(t, err)
	require.Equal(t, filepath.Join(dir, "grant"), c.Grant.File)
}

func TestRelativePathsBeginAtTheWorkingDirectory(t *testing.T) {
	dir := t.TempDir()
	t.Chdir(dir)
	c, _, err := Load(LoadOptions{
		DefaultFile: "none", Flags: map[string]string{"socket": "./s.sock", "grant-file": "/a/../b"}, Env: []string{"GRANTEXD_STATE_DIR=state"},
	})
	require.NoError(t, err)
	require.Equal(t, filepath.Join(dir, "s.sock"), c.Socket.Path)
	require.Equal(t, filepath.Join(dir, "state"), c.State.Dir)
	require.Equal(t, "/a/../b", c.Grant.File, "an absolute path is used as it is")
}

func TestAccessRules(t *testing.T) {
	c, warnings, err := load(t, `
access:
  - name: agents
    users: [agent, 1007]
    groups: [agents]
    services: ["git*", slack]
  - principals: [tcp]
    services: ["*"]
  - anyone: true
    services: [public]
`)
	require.NoError(t, err)
	require.Empty(t, warnings)
	require.Equal(t, []access.Rule{
		{Name: "agents", Users: []string{"agent", "1007"}, Groups: []string{"agents"}, Services: []string{"git*", "slack"}},
		{Principals: []string{"tcp"}, Services: []string{"*"}},
		{Anyone: true, Services: []string{"public"}},
	}, c.Access)

	c, warnings, err = load(t, "access: []\n")
	require.NoError(t, err)
	require.NotNil(t, c.Access)
	require.Empty(t, c.Access)
	require.Len(t, warnings, 1)
	require.Contains(t, warnings[0].Message, "lets nobody read anything")
}

func TestALowerLimitTakesTheReserveDown(t *testing.T) {
	for limit, want := range map[int]int{1: 0, 5: 2, 19: 7, 20: 8} {
		c, _, err := load(t, fmt.Sprintf("budget: {limit: %d}\n", limit))
		require.NoError(t, err)
		require.Equal(t, want, c.Budget.Reserve, "limit %d", limit)
	}
	c, _, err := load(t, "budget: {limit: 5, reserve: 4}\n")
	require.NoError(t, err)
	require.Equal(t, 4, c.Budget.Reserve)
}

func TestEmptyGroupsAndFiles(t *testing.T) {
	for _, content := range []string{"", "\n", "# only comments\n", "---\n", "grant:\n", "grant:\n  # file: /x\nlog:\n"} {
		c, _, err := load(t, content)
		require.NoError(t, err, "%q", content)
		require.Equal(t, 30*time.Second, c.Grant.Poll)
	}
}
