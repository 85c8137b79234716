package upstream

import (
	"context"
	"net/http"
	"strings"

	"github.com/grantexd/grantexd/upstream/secret"
)

// exchangeBody is what an exchange sends.
type exchangeBody struct {
	Service string `json:"service"`
}

// Exchange asks the vault for the credential of service that the grant token
// opens (POST /v1/vault/credentials/exchange). A credential that has expired is
// returned like any other.
//
// Errors: [ErrInvalidService] and [ErrNoToken] before anything was sent;
// [*Error] for any other answer; [*MalformedError] for a 200 that is no
// credential of service; errors that wrap [ErrTimeout] or [ErrConnect] for
// none; a [*NoSlotError] from the layer of Options.Wrap; the context's error if
// it was cancelled.
func (c *Client) Exchange(ctx context.Context, grant secret.Text, service string) (*Credential, error) {
	if !ValidService(service) {
		return nil, ErrInvalidService
	}
	a, _, err := c.do(ctx, call{
		method:    http.MethodPost,
		path:      PathExchange,
		token:     grant,
		tokenName: "grant token",
		body:      exchangeBody{Service: service},
		want:      []int{http.StatusOK},
	})
	if err != nil {
		return nil, err
	}
	cred, err := decodeCredential(a, service)
	if err != nil {
		return nil, err
	}
	// The vault itself sends no such header; gateways in front of it do.
	if id := a.header.Get("X-Request-Id"); isName(id) {
		cred.RequestID = redact(id, []secret.Text{grant, cred.AccessToken})
	}
	return cred, nil
}

// decodeCredential reads the answer to an exchange for service.
func decodeCredential(a *answer, service string) (*Credential, error) {
	d := decode(a)
	cred := &Credential{
		AccessToken:    secret.New(d.required("accessToken")),
		Service:        d.required("service"),
		CredentialType: d.text("credentialType"),
		TokenExpiresAt: d.time("tokenExpiresAt"),
		Metadata:       d.metadata(),
		Date:           parseDate(a.header),
	}
	// A cache or a proxy that mixes up answers must not make us hand one
	// service's token to the readers of another.
	if !strings.EqualFold(cred.Service, service) {
		d.fail("it is the credential of another service")
	}
	if err := d.err(a); err != nil {
		return nil, err
	}
	return cred, nil
}
