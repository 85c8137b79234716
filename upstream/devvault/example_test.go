package devvault_test

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"

	"github.com/grantexd/grantexd/upstream/devvault"
	"github.com/grantexd/grantexd/upstream/secret"
)

// A test stores what it needs, makes a grant and lets the vault misbehave.
func Example() {
	vault, err := devvault.New(devvault.Options{})
	if err != nil {
		panic(err)
	}
	defer func() { _ = vault.Close() }()
	server := httptest.NewServer(vault.Handler())
	defer server.Close()

	if _, err := vault.Store(devvault.CredentialParams{
		Service: "github", AccessToken: secret.New("made-up"), Type: "pat",
	}); err != nil {
		panic(err)
	}
	token, claims, err := vault.Mint(devvault.MintParams{Scopes: []string{"github:read"}})
	if err != nil {
		panic(err)
	}
	if _, err := vault.AddFault(devvault.Fault{Kind: devvault.FaultStatus, Status: 502, Times: 1}); err != nil {
		panic(err)
	}

	for range 2 {
		r, _ := http.NewRequest("POST", server.URL+"/v1/vault/credentials/exchange", strings.NewReader(`{"service":"github"}`))
		r.Header.Set("Authorization", "Bearer "+token.Reveal())
		r.Header.Set("Content-Type", "application/json")
		resp, err := server.Client().Do(r)
		if err != nil {
			panic(err)
		}
		body, _ := io.ReadAll(resp.Body)
		_ = resp.Body.Close()
		fmt.Println(resp.StatusCode, strings.Contains(string(body), "made-up"))
	}
	seen := vault.Exchanges()
	fmt.Println(seen.Total, seen.Exchanges[0].GrantID == claims.GrantID)
	// Output:
	// 502 false
	// 200 true
	// 2 true
}
