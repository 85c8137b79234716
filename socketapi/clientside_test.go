package socketapi

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/grantexd/grantexd/socketapi/access"
	"github.com/grantexd/grantexd/socketapi/client"
	"github.com/grantexd/grantexd/socketapi/wire"
)

// TestClientAgainstTheAPI makes every call of the Go client over a real socket.
func TestClientAgainstTheAPI(t *testing.T) {
	source := newFakeSource("github")
	source.status = wire.Status{Version: "1.2.3"}
	run := startAPI(t, Options{Source: source}, 0)
	c := client.Client{Socket: run.path}
	defer c.CloseIdleConnections()

	credential, meta, err := c.Get(t.Context(), "github", client.GetOptions{Wait: 1500 * time.Millisecond, NoCache: true})
	require.NoError(t, err)
	require.Equal(t, testCredential("github"), *credential)
	require.Equal(t, client.Meta{
		Fingerprint: testFingerprint, CacheStatus: "grantexd; hit; ttl=3540", Age: time.Minute,
	}, meta)
	require.Equal(t, Request{
		Service: "github", Caller: selfPrincipal, Wait: 1500 * time.Millisecond, NoCache: true,
	}, source.asked()[0])

	_, _, err = c.Rejected(t.Context(), "github", meta.Fingerprint)
	require.NoError(t, err)
	require.Equal(t, []string{testFingerprint}, source.rejected)

	list, err := c.List(t.Context())
	require.NoError(t, err)
	require.Len(t, list.Credentials, 1)
	explanation, err := c.Explain(t.Context(), "github", "1000:1000")
	require.NoError(t, err)
	require.True(t, explanation.Allowed)
	status, err := c.Status(t.Context())
	require.NoError(t, err)
	require.Equal(t, "1.2.3", status.Version)
	require.NoError(t, c.Health(t.Context()))
	require.NoError(t, c.Ready(t.Context()))

	run.api.SetAccess(rules(t, access.Rule{Users: []string{"4000000"}, Services: []string{"*"}}))
	for name, call := range map[string]func() error{
		"get":      func() error { _, _, err := c.Get(t.Context(), "github", client.GetOptions{}); return err },
		"rejected": func() error { _, _, err := c.Rejected(t.Context(), "github", "x"); return err },
	} {
		var refused *wire.Error
		require.ErrorAs(t, call(), &refused, name)
		require.Equal(t, wire.CodePeerDenied, refused.Code, name)
	}
	explanation, err = c.Explain(t.Context(), "github", "")
	require.NoError(t, err)
	require.False(t, explanation.Allowed)
	require.Equal(t, wire.StateDenied, explanation.State)
	list, err = c.List(t.Context())
	require.NoError(t, err)
	require.Empty(t, list.Credentials)

	for _, name := range []string{"..", "a/b", "a\r\nb", ""} {
		_, _, err := c.Get(t.Context(), name, client.GetOptions{})
		var refused *wire.Error
		require.ErrorAs(t, err, &refused, name)
		require.Equal(t, wire.CodeBadRequest, refused.Code, name)
	}
}
