package upstream_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"time"

	"github.com/grantexd/grantexd/upstream"
	"github.com/grantexd/grantexd/upstream/secret"
)

func ExampleClient_Exchange() {
	vault := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = fmt.Fprint(w, `{"accessToken":"gho_example","service":"github","credentialType":"oauth2",
			"tokenExpiresAt":"2031-02-03T04:05:06.000Z","metadata":"{\"login\":\"octocat\"}"}`)
	}))
	defer vault.Close()

	client, err := upstream.New(upstream.Options{BaseURL: vault.URL})
	if err != nil {
		panic(err)
	}
	defer client.CloseIdleConnections()

	grant := secret.New("header.claims.signature") // from the grant file
	cred, err := client.Exchange(context.Background(), grant, "github")
	var refused *upstream.Error
	switch {
	case errors.As(err, &refused) && refused.GrantRejected():
		fmt.Println("the grant was revoked")
	case err != nil:
		fmt.Println(err)
	default:
		fmt.Println(cred.Service, cred.AccessToken, cred.TokenExpiresAt.Format(time.RFC3339), string(cred.Metadata))
	}
	// Output: github [redacted] 2031-02-03T04:05:06Z {"login":"octocat"}
}

func ExampleCovers() {
	scopes := []string{"slack:read", "calendar:write"}
	fmt.Println(upstream.Covers(scopes, "slack"), upstream.Covers(scopes, "github"))
	fmt.Println(upstream.ScopesFor("github"))
	// Output:
	// true false
	// [* github:* github:read github:credentials:read vault:github:* vault:github:read vault:credentials:exchange]
}
