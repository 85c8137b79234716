package upstream_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/grantexd/grantexd/upstream"
)

func TestCovers(t *testing.T) {
	for _, tt := range []struct {
		name, service string
		scopes        []string
		want          bool
	}{
		{"everything", "github", []string{"*"}, true},
		{"all of the service", "github", []string{"github:*"}, true},
		{"reading the service", "github", []string{"github:read"}, true},
		{"reading its credentials", "github", []string{"github:credentials:read"}, true},
		{"all of the service in the vault", "github", []string{"vault:github:*"}, true},
		{"reading the service in the vault", "github", []string{"vault:github:read"}, true},
		{"every exchange", "github", []string{"vault:credentials:exchange"}, true},
		{"case of the scope", "github", []string{"GitHub:Read"}, true},
		{"case of the service", "GITHUB", []string{"vault:github:read"}, true},
		{"one of many", "github", []string{"slack:read", "", "calendar:write", "github:read"}, true},

		{"no scopes", "github", nil, false},
		{"empty scope", "github", []string{""}, false},
		{"another service", "github", []string{"slack:*", "slack:read", "vault:slack:*"}, false},
		{"writing", "github", []string{"github:write", "vault:github:write"}, false},
		{"the bare name", "github", []string{"github", "vault:github"}, false},
		{"longer name", "github", []string{"github2:read", "xgithub:read"}, false},
		{"shorter name", "github2", []string{"github:read"}, false},
		{"all of the vault", "github", []string{"vault:*"}, false},
		{"deeper", "github", []string{"github:read:x", "github:credentials:*"}, false},
		{"white space", "github", []string{" github:read"}, false},
		{"star in a name", "github", []string{"git*:read", "*:read"}, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			require.Equal(t, tt.want, upstream.Covers(tt.scopes, tt.service))
		})
	}
}

func TestScopesForAllCover(t *testing.T) {
	for _, service := range []string{"github", "Slack.bot-1"} {
		scopes := upstream.ScopesFor(service)
		require.Len(t, scopes, 7)
		for _, scope := range scopes {
			require.True(t, upstream.Covers([]string{scope}, service), scope)
		}
	}
}

func TestMayCover(t *testing.T) {
	for name, c := range map[string]struct {
		scopes []string
		want   bool
	}{
		"none at all":                  {nil, false},
		"covers":                       {[]string{"github:read"}, true},
		"of another service":           {[]string{"slack:*", "vault:slack:read", "slack:credentials:read"}, false},
		"another action":               {[]string{"github:write", "vault:github:write", "github:credentials:write"}, false},
		"an undocumented vault action": {[]string{"slack:*", "vault:github:exchange"}, true},
		"one word":                     {[]string{"slack:*", "admin"}, true},
		"four parts":                   {[]string{"a:b:c:d"}, true},
		"an empty part":                {[]string{"github:"}, true},
		"empty":                        {[]string{""}, true},
		"case does not matter":         {[]string{"VAULT:SLACK:READ"}, false},
	} {
		t.Run(name, func(t *testing.T) { require.Equal(t, c.want, upstream.MayCover(c.scopes, "github")) })
	}
}
