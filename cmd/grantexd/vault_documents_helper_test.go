package main

import (
	"bytes"
	"crypto/rand"
	"crypto/rsa"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/grantexd/grantexd/socketapi/wire"
	"github.com/grantexd/grantexd/upstream"
	"github.com/grantexd/grantexd/upstream/devvault"
	"github.com/grantexd/grantexd/upstream/secret"
)

// signingKey is made once: that takes some 100 ms.
var signingKey = sync.OnceValue(func() *rsa.PrivateKey {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		panic(err)
	}
	return key
})

// request is what arrived at the vault.
type request struct {
	method, path, query string
	header              http.Header
	body                map[string]json.RawMessage
}

// recordedVault is a vault that remembers what arrived.
type recordedVault struct {
	*devvault.Server
	url string

	mu       sync.Mutex
	requests []request
}

func newRecordedVault(t *testing.T, o devvault.Options) *recordedVault {
	t.Helper()
	o.SigningKey, o.APIKey = signingKey(), secret.New("gx_canary_api_key")
	server, err := devvault.New(o)
	require.NoError(t, err)
	v := &recordedVault{Server: server}
	web := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		content, _ := io.ReadAll(r.Body)
		seen := request{method: r.Method, path: r.URL.Path, query: r.URL.RawQuery, header: r.Header}
		_ = json.Unmarshal(content, &seen.body)
		v.mu.Lock()
		v.requests = append(v.requests, seen)
		v.mu.Unlock()
		r.Body = io.NopCloser(bytes.NewReader(content))
		server.Handler().ServeHTTP(w, r)
	}))
	t.Cleanup(func() {
		web.Close()
		require.NoError(t, server.Close())
	})
	v.url = web.URL
	return v
}

// last is the last request that arrived.
func (v *recordedVault) last(t *testing.T) request {
	t.Helper()
	v.mu.Lock()
	defer v.mu.Unlock()
	require.NotEmpty(t, v.requests, "nothing arrived at the vault")
	return v.requests[len(v.requests)-1]
}

// count is how many requests have arrived.
func (v *recordedVault) count() int {
	v.mu.Lock()
	defer v.mu.Unlock()
	return len(v.requests)
}

// grant makes a grant token for the principal of the tests.
func (v *recordedVault) grant(t *testing.T, p devvault.MintParams) secret.Text {
	t.Helper()
	if p.Principal == "" {
		p.Principal = "user_7"
	}
	token, _, err := v.Mint(p)
	require.NoError(t, err)
	return token
}

// side is one way to call the vault: the client, or the command on top of it.
type side interface {
	store(upstream.StoreParams) (*upstream.StoreResult, error)
	list(upstream.ListParams) ([]upstream.StoredCredential, error)
	get(id string) (*upstream.StoredCredential, error)
	remove(id string) error
	exchange(grant secret.Text, service string) (*upstream.Credential, error)
}

// clientSide calls the client.
type clientSide struct {
	t      *testing.T
	client *upstream.Client
}

func newClientSide(t *testing.T, v *recordedVault) clientSide {
	t.Helper()
	client, err := upstream.New(upstream.Options{BaseURL: v.url, APIKey: v.APIKey()})
	require.NoError(t, err)
	t.Cleanup(client.CloseIdleConnections)
	return clientSide{t, client}
}

func (s clientSide) store(p upstream.StoreParams) (*upstream.StoreResult, error) {
	return s.client.Store(s.t.Context(), p)
}

func (s clientSide) list(p upstream.ListParams) ([]upstream.StoredCredential, error) {
	return s.client.List(s.t.Context(), p)
}

func (s clientSide) get(id string) (*upstream.StoredCredential, error) {
	return s.client.Get(s.t.Context(), id)
}
func (s clientSide) remove(id string) error { return s.client.Delete(s.t.Context(), id) }

func (s clientSide) exchange(grant secret.Text, service string) (*upstream.Credential, error) {
	return s.client.Exchange(s.t.Context(), grant, service)
}

// commandSide runs the command, with --json.
type commandSide struct {
	t     *testing.T
	vault *recordedVault
	env   []string
}

func newCommandSide(t *testing.T, v *recordedVault) commandSide {
	t.Helper()
	return commandSide{t, v, []string{"GRANTEXD_UPSTREAM=" + v.url, "GRANTEX_API_KEY=" + v.APIKey().Reveal()}}
}

// result is what a command did.
type result struct {
	out, err string
	code     int
}

// runCommand runs a command in this process. Whatever it prints, no secret of
// secrets is in it.
func runCommand(t *testing.T, env []string, stdin io.Reader, secrets []string, args ...string) result {
	t.Helper()
	var out, errs bytes.Buffer
	a := &app{stdio: stdio{stdin, &out, &errs}, env: env}
	err := a.execute(t.Context(), args)
	if err != nil {
		a.report(err)
	}
	for _, canary := range secrets {
		if canary == "" {
			continue
		}
		require.NotContains(t, errs.String(), canary, "standard error of %v", args)
		require.NotContains(t, out.String(), canary, "standard output of %v", args)
	}
	return result{out.String(), errs.String(), exitCodeOf(err)}
}

// run runs grantexd vault --json and decodes what it prints.
func (s commandSide) run(into any, stdin string, secrets []string, args ...string) error {
	s.t.Helper()
	secrets = append(secrets, s.vault.APIKey().Reveal())
	r := runCommand(s.t, s.env, strings.NewReader(stdin), secrets, append([]string{"vault", args[0], "--json"}, args[1:]...)...)
	if r.code != exitOK {
		require.Empty(s.t, r.out)
		require.NotEmpty(s.t, r.err)
		return &exitError{r.code, errors.New(r.err)}
	}
	if into != nil {
		require.NoError(s.t, json.Unmarshal([]byte(r.out), into), r.out)
	}
	return nil
}

// file writes a secret to a file that only this user can read.
func (s commandSide) file(content secret.Text) string {
	s.t.Helper()
	path := filepath.Join(s.t.TempDir(), "secret")
	require.NoError(s.t, os.WriteFile(path, []byte(content.Reveal()+"\n"), 0o600))
	return path
}

func (s commandSide) store(p upstream.StoreParams) (*upstream.StoreResult, error) {
	args := []string{"store", "--token-file", "-"}
	for flag, value := range map[string]string{
		"--principal-id": p.PrincipalID, "--service": p.Service, "--credential-type": p.CredentialType, "--metadata": string(p.Metadata),
	} {
		if value != "" {
			args = append(args, flag, value)
		}
	}
	if !p.RefreshToken.IsZero() {
		args = append(args, "--refresh-token-file", s.file(p.RefreshToken))
	}
	if !p.TokenExpiresAt.IsZero() {
		args = append(args, "--token-expires-at", p.TokenExpiresAt.Format(time.RFC3339Nano))
	}
	var out storeResultJSON
	secrets := []string{"canary_access", "canary_refresh"}
	if err := s.run(&out, p.AccessToken.Reveal(), secrets, args...); err != nil {
		return nil, err
	}
	return &upstream.StoreResult{ID: out.ID, PrincipalID: out.PrincipalID, Service: out.Service,
		CredentialType: out.CredentialType, CreatedAt: out.CreatedAt.Time}, nil
}

func (s commandSide) list(p upstream.ListParams) ([]upstream.StoredCredential, error) {
	args := []string{"list"}
	if p.PrincipalID != "" {
		args = append(args, "--principal-id", p.PrincipalID)
	}
	if p.Service != "" {
		args = append(args, "--service", p.Service)
	}
	var out struct{ Credentials []storedJSON }
	if err := s.run(&out, "", []string{"canary_access"}, args...); err != nil {
		return nil, err
	}
	list := []upstream.StoredCredential{}
	for _, c := range out.Credentials {
		list = append(list, s.stored(c))
	}
	return list, nil
}

func (s commandSide) get(id string) (*upstream.StoredCredential, error) {
	var out storedJSON
	if err := s.run(&out, "", []string{"canary_access"}, "get", id); err != nil {
		return nil, err
	}
	c := s.stored(out)
	return &c, nil
}

func (s commandSide) remove(id string) error { return s.run(nil, "", nil, "delete", "--yes", id) }

func (s commandSide) exchange(grant secret.Text, service string) (*upstream.Credential, error) {
	args := []string{"exchange", "--show-token", service}
	if !grant.IsZero() {
		args = append(args, "--grant-file", s.file(grant))
	}
	var out wire.Credential
	if err := s.run(&out, "", []string{"canary_refresh", grant.Reveal()}, args...); err != nil {
		return nil, err
	}
	return &upstream.Credential{AccessToken: out.AccessToken, Service: out.Service, CredentialType: out.CredentialType,
		TokenExpiresAt: out.TokenExpiresAt, Metadata: out.Metadata}, nil
}

func (s commandSide) stored(c storedJSON) upstream.StoredCredential {
	out := upstream.StoredCredential{ID: c.ID, PrincipalID: c.PrincipalID, Service: c.Service, CredentialType: c.CredentialType,
		TokenExpiresAt: c.TokenExpiresAt.Time, CreatedAt: c.CreatedAt.Time, UpdatedAt: c.UpdatedAt.Time}
	var compact bytes.Buffer // people read the command's JSON, so it is indented
	require.NoError(s.t, json.Compact(&compact, c.Metadata))
	out.Metadata = compact.Bytes()
	return out
}
