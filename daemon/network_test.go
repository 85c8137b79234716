package daemon_test

import (
	"fmt"
	"net/url"
	"strings"
	"testing"
	"time"

	toxiproxy "github.com/Shopify/toxiproxy/v2"
	"github.com/rs/zerolog"
	"github.com/stretchr/testify/require"

	"github.com/grantexd/grantexd/socketapi/wire"
	"github.com/grantexd/grantexd/upstream/devvault"
)

// network is a proxy between the daemon and its vault that can be poisoned.
type network struct {
	t     *testing.T
	proxy *toxiproxy.Proxy
}

// through puts a proxy in front of the host's vault, and shortens the times that
// a test would have to wait for.
func through(t *testing.T, h *host) *network {
	t.Helper()
	vault, err := url.Parse(h.config.Upstream.URL)
	require.NoError(t, err)
	zerolog.SetGlobalLevel(zerolog.Disabled) // its toxics log past the logger that they are given
	server := toxiproxy.NewServer(toxiproxy.NewMetricsContainer(nil), zerolog.Nop())
	proxy := toxiproxy.NewProxy(server, t.Name(), "127.0.0.1:0", vault.Host)
	require.NoError(t, proxy.Start())
	t.Cleanup(proxy.Stop)
	h.config.Upstream.URL = "http://" + proxy.Listen
	h.config.Upstream.AttemptTimeout = 500 * time.Millisecond
	h.config.Upstream.FlightTimeout = 1200 * time.Millisecond
	h.config.Upstream.RetryWaitMin, h.config.Upstream.RetryWaitMax = time.Millisecond, 2*time.Millisecond
	h.config.Upstream.CooldownMin = 100 * time.Millisecond
	return &network{t: t, proxy: proxy}
}

// poison adds a toxic, in the words of the proxy's own API.
func (n *network) poison(kind, stream, attributes string) {
	n.t.Helper()
	_, err := n.proxy.Toxics.AddToxicJson(strings.NewReader(fmt.Sprintf(
		`{"name":"poison","type":%q,"stream":%q,"attributes":%s}`, kind, stream, attributes)))
	require.NoError(n.t, err)
}

func (n *network) heal() {
	n.t.Helper()
	require.NoError(n.t, n.proxy.Toxics.RemoveToxic(n.t.Context(), "poison"))
}

// TestNetworkFaults poisons the way to the vault after a first credential was
// handed out: what is held stays in use, a miss fails with the right code in
// bounded time, nothing is asked too often, and all is well afterwards.
func TestNetworkFaults(t *testing.T) {
	for name, fault := range map[string]struct {
		kind, stream, attributes string
		code                     wire.Code
		// asked is how many requests reach the vault at most while one caller
		// meets the fault: an attempt and its one retry.
		asked int
	}{
		"latency beyond the attempt's timeout": {"latency", "downstream", `{"latency":5000}`, wire.CodeUpstreamTimeout, 2},
		"requests that trickle":                {"bandwidth", "upstream", `{"rate":0}`, wire.CodeUpstreamTimeout, 2},
		"answers that trickle":                 {"slicer", "downstream", `{"average_size":1,"size_variation":0,"delay":20000}`, wire.CodeUpstreamTimeout, 2},
		"reset at once":                        {"reset_peer", "downstream", `{"timeout":0}`, wire.CodeUpstreamError, 2},
		"reset after the request":              {"reset_peer", "downstream", `{"timeout":50}`, wire.CodeUpstreamError, 2},
		"half open: nothing comes back":        {"timeout", "downstream", `{"timeout":0}`, wire.CodeUpstreamTimeout, 2},
		"half open: nothing gets there":        {"timeout", "upstream", `{"timeout":0}`, wire.CodeUpstreamTimeout, 0},
		"cut in the middle of the answer":      {"limit_data", "downstream", `{"bytes":200}`, wire.CodeUpstreamError, 2},
	} {
		t.Run(name, func(t *testing.T) {
			h := newHost(t)
			n := through(t, h)
			h.start()
			h.want("github", canaryToken)

			n.poison(fault.kind, fault.stream, fault.attributes)
			before := h.vault.Exchanges().Total
			began := time.Now()
			e := h.refuse("slack", fault.code)
			require.Less(t, time.Since(began), 3*time.Second)
			require.Positive(t, e.RetryAfter)
			require.LessOrEqual(t, h.vault.Exchanges().Total-before, fault.asked)
			h.want("github", canaryToken)

			n.heal()
			h.becomes("slack", "", 5*time.Second)
			st, err := h.client.Status(t.Context())
			require.NoError(t, err)
			require.Equal(t, "ok", st.Upstream.State)
			require.LessOrEqual(t, h.vault.Exchanges().MaxInWindow, 20)
		})
	}
}

func TestLatencyWithinTheTimeoutOnlyCostsTime(t *testing.T) {
	h := newHost(t)
	n := through(t, h)
	h.start()
	n.poison("latency", "downstream", `{"latency":200,"jitter":50}`)
	h.want("github", canaryToken)
	began := time.Now()
	h.want("github", canaryToken)
	require.Less(t, time.Since(began), 100*time.Millisecond, "what is held does not wait for the network")
}

func TestNobodyListensAtTheVaultsAddress(t *testing.T) {
	h := newHost(t)
	n := through(t, h)
	h.start()
	n.proxy.Stop()
	e := h.refuse("github", wire.CodeUpstreamError)
	require.Contains(t, e.Message, "connection refused")
	require.Zero(t, h.vault.Exchanges().Total)
}

// TestVaultFaults does the same with the embedded vault's own misbehaviour.
func TestVaultFaults(t *testing.T) {
	for name, c := range map[string]struct {
		fault devvault.Fault
		code  wire.Code
	}{
		"hangs":             {devvault.Fault{Kind: "hang"}, wire.CodeUpstreamTimeout},
		"500":               {devvault.Fault{Kind: "status", Status: 500}, wire.CodeUpstreamError},
		"503 and its retry": {devvault.Fault{Kind: "status", Status: 503}, wire.CodeUpstreamError},
		"a page of a proxy": {devvault.Fault{Kind: "status", Status: 502, Body: "<h1>Bad Gateway</h1>"}, wire.CodeUpstreamError},
		"truncated":         {devvault.Fault{Kind: "truncate"}, wire.CodeUpstreamError},
		"oversized":         {devvault.Fault{Kind: "oversize", Size: 4 << 20}, wire.CodeUpstreamError},
		"malformed":         {devvault.Fault{Kind: "malformed"}, wire.CodeUpstreamError},
		"reset":             {devvault.Fault{Kind: "reset"}, wire.CodeUpstreamError},
		"invalid API key":   {devvault.Fault{Kind: "unauthorized", As: "api-key"}, wire.CodeUpstreamError},
		"limited":           {devvault.Fault{Kind: "rate-limit", RetryAfter: 40 * time.Second}, wire.CodeRateLimited},
	} {
		t.Run(name, func(t *testing.T) {
			h := newHost(t)
			through(t, h)
			h.start()
			h.want("github", canaryToken)
			_, err := h.vault.AddFault(c.fault)
			require.NoError(t, err)
			h.refuse("slack", c.code)
			h.want("github", canaryToken)
			require.NotContains(t, h.log.String(), "Bad Gateway", "no body of the vault's is ever logged")
		})
	}
}
