package access

import (
	"strings"
	"testing"

	"github.com/goccy/go-yaml"
	"github.com/stretchr/testify/require"
)

func TestCompileRefuses(t *testing.T) {
	for _, c := range []struct {
		name string
		rule Rule
		want string
	}{
		{"no services", Rule{Users: list("alice")}, `write "*" for all`},
		{"no caller", Rule{Services: all}, "no caller is named"},
		{"anyone and users", Rule{Anyone: true, Users: list("alice"), Services: all}, "anyone stands alone"},
		{"anyone and groups", Rule{Anyone: true, Groups: list("staff"), Services: all}, "anyone stands alone"},
		{"anyone and units", Rule{Anyone: true, Units: list("*"), Services: all}, "anyone stands alone"},
		{"anyone and tcp", Rule{Anyone: true, Principals: list("tcp"), Services: all}, "anyone stands alone"},
		{"tcp and users", Rule{Principals: list("tcp"), Users: list("alice"), Services: all}, "a rule of their own"},
		{"another principal", Rule{Principals: list("uid:0"), Services: all}, `principal "uid:0" is none`},
		{"the daemon's own", Rule{Principals: list("internal"), Services: all}, `principal "internal" is none`},
		{"no such user", Rule{Users: list("carol"), Services: all}, `user "carol" can't be found`},
		{"no such group", Rule{Groups: list("carol"), Services: all}, `group "carol" can't be found`},
		{"a user is no group", Rule{Groups: list("alice"), Services: all}, `group "alice" can't be found`},
		{"user in another case", Rule{Users: list("Alice"), Services: all}, `user "Alice" can't be found`},
		{"empty user", Rule{Users: list(""), Services: all}, "an empty user name"},
		{"empty group", Rule{Groups: list(""), Services: all}, "an empty group name"},
		{"user too large", Rule{Users: list("4294967296"), Services: all}, "too large"},
		{"no user", Rule{Users: list("4294967295"), Services: all}, "no caller can match it"},
		{"overflow user", Rule{Users: list("65534"), Services: all}, "no caller can match it"},
		{"overflow user by name", Rule{Users: list("nobody"), Services: all}, "user nobody stands for everybody unknown"},
		{"overflow group", Rule{Groups: list("nogroup"), Services: all}, "group nogroup stands for everybody unknown"},
		{"octal or decimal", Rule{Users: list("0100"), Services: all}, "begins with a zero"},
		{"negative", Rule{Users: list("-1"), Services: all}, `user "-1" can't be found`},
		{"empty unit", Rule{Units: list(""), Services: all}, "an empty unit name"},
		{"unit with a space", Rule{Units: list("a b.service"), Services: all}, `no name of one has a " "`},
		{"unit with a class", Rule{Units: list("a[0-9].service"), Services: all}, `no name of one has a "["`},
		{"unit too long", Rule{Units: list(strings.Repeat("a", 512)), Services: all}, "longer than any name"},
		{"empty service", Rule{Users: list("alice"), Services: list("")}, "an empty service name"},
		{"service with a slash", Rule{Users: list("alice"), Services: list("a/*")}, `no name of one has a "/"`},
		{"service with a class", Rule{Users: list("alice"), Services: list("[a]")}, `no name of one has a "["`},
		{"service that is not ASCII", Rule{Users: list("alice"), Services: list("gïthub")}, `no name of one has a "ï"`},
		{"service that is no text", Rule{Users: list("alice"), Services: list("\xff")}, "no name of one has a"},
		{"service too long", Rule{Users: list("alice"), Services: list(strings.Repeat("a", 65))}, "longer than any name"},
		{"name with a newline", Rule{Name: "a\nb", Users: list("alice"), Services: all}, "must be printable"},
		{"name with space around", Rule{Name: " a", Users: list("alice"), Services: all}, "without space around"},
	} {
		t.Run(c.name, func(t *testing.T) {
			r, err := Compile([]Rule{c.rule}, accounts{})
			require.ErrorContains(t, err, c.want)
			require.ErrorContains(t, err, "access rule ")
			require.Nil(t, r)
		})
	}
}

func TestCompileAccepts(t *testing.T) {
	for name, rule := range map[string]Rule{
		"longest service":  {Users: list("alice"), Services: list(strings.Repeat("a", 64))},
		"longest unit":     {Units: list(strings.Repeat("a", 511)), Services: list("*")},
		"largest user":     {Users: list("4294967294"), Services: list("*")},
		"beside overflow":  {Users: list("65533", "65535"), Services: list("*")},
		"root":             {Users: list("0", "root"), Services: list("*")},
		"escaped unit":     {Units: list(`a\x2db@*.service`), Services: list("*")},
		"services in caps": {Anyone: true, Services: list("GitHub.v2_x-?")},
		"name with spaces": {Name: "the CI of Zoë", Anyone: true, Services: list("*")},
		"the same twice":   {Users: list("alice", "1000"), Services: list("a", "a")},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := Compile([]Rule{rule}, accounts{})
			require.NoError(t, err)
		})
	}
}

func TestCompileTellsAllMistakes(t *testing.T) {
	_, err := Compile([]Rule{
		{Name: "ci", Users: list("carol", "dave"), Services: list("a b")},
		{Name: "fine", Anyone: true, Services: list("*")},
		{Services: list("*")},
	}, accounts{})
	require.ErrorIs(t, err, errNoAccount)
	for _, want := range []string{`rule "ci"`, "carol", "dave", "a b", `rule "rule 3"`} {
		require.ErrorContains(t, err, want)
	}
	require.NotContains(t, err.Error(), "fine")
}

func TestCompileRefusesTheSameNameTwice(t *testing.T) {
	r := Rule{Anyone: true, Services: list("*")}
	named := func(name string) Rule { r := r; r.Name = name; return r }
	_, err := Compile([]Rule{named("a"), named("b"), named("a")}, accounts{})
	require.ErrorContains(t, err, `access rule "a": another rule has the same name`)
	_, err = Compile([]Rule{named("rule 2"), r}, accounts{})
	require.ErrorContains(t, err, "the same name")
	_, err = Compile([]Rule{r, r}, accounts{})
	require.NoError(t, err, "they are rule 1 and rule 2")
}

func TestCompileOfNoRules(t *testing.T) {
	r, err := Compile(nil, nil)
	require.NoError(t, err)
	require.Nil(t, r)
	r, err = Compile([]Rule{}, nil)
	require.NoError(t, err)
	require.NotNil(t, r)
}

func TestHost(t *testing.T) {
	r, err := Compile([]Rule{{Users: list("root"), Groups: list("root"), Services: list("*")}}, nil)
	require.NoError(t, err)
	require.True(t, r.Decide(caller(0, 0), "github").Allowed)
	_, err = Compile([]Rule{{Users: list("no such user"), Groups: list("no such group"), Services: list("*")}}, nil)
	require.ErrorContains(t, err, "no such user")
	require.ErrorContains(t, err, "no such group")
}

// The example of the package comment, numbers without quotes included.
func TestRulesFromYAML(t *testing.T) {
	var config struct{ Access []Rule }
	require.NoError(t, yaml.Unmarshal([]byte(`
access:
  - name: ci
    users: [alice, 1234, "5678"]
    services: [github, npm-*]
  - units: [backup@*.service]
    groups: [staff, 70]
    services: ["*"]
  - principals: [tcp]
    services: [github]
  - anyone: true
    services: [mirror]
`), &config))
	require.Equal(t, []Rule{
		{Name: "ci", Users: list("alice", "1234", "5678"), Services: list("github", "npm-*")},
		{Units: list("backup@*.service"), Groups: list("staff", "70"), Services: list("*")},
		{Principals: list("tcp"), Services: list("github")},
		{Anyone: true, Services: list("mirror")},
	}, config.Access)
	compile(t, config.Access...)
}
