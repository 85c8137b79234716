package upstream

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"time"

	"github.com/grantexd/grantexd/upstream/secret"
)

// StoreParams are a credential that the developer puts into the vault.
type StoreParams struct {
	// PrincipalID is the end user who owns the credential. Required.
	PrincipalID string
	// Service is the service's name (see [ValidService]). Required.
	Service string
	// AccessToken is the service's token. Required.
	AccessToken secret.Text
	// CredentialType is free text, for example "oauth2" or "api_key"; "" leaves
	// it to the vault.
	CredentialType string
	// RefreshToken is the service's refresh token, empty for none.
	RefreshToken secret.Text
	// TokenExpiresAt is when the access token ends; it is sent in UTC with
	// milliseconds. Zero for none, or if it is not known.
	TokenExpiresAt time.Time
	// Metadata is a JSON object to keep with the credential, nil for none.
	Metadata json.RawMessage
}

// StoreResult is what the vault says of a credential that it has stored.
type StoreResult struct {
	// ID identifies the credential. Storing again for the same principal and
	// service keeps it.
	ID string
	// PrincipalID, Service and CredentialType are as they were stored.
	PrincipalID, Service, CredentialType string
	// CreatedAt is when the credential was first stored, in UTC with
	// milliseconds.
	CreatedAt time.Time
}

// storeBody is what a store sends.
type storeBody struct {
	PrincipalID    string          `json:"principalId"`
	Service        string          `json:"service"`
	AccessToken    string          `json:"accessToken"`
	CredentialType string          `json:"credentialType,omitempty"`
	RefreshToken   string          `json:"refreshToken,omitempty"`
	TokenExpiresAt string          `json:"tokenExpiresAt,omitempty"`
	Metadata       json.RawMessage `json:"metadata,omitempty"`
}

// Store puts a credential into the vault, in place of the one that this
// principal has for this service (POST /v1/vault/credentials, with the API
// key). What the vault would refuse, in the case of a bad expiry with a 500, is
// refused here. The errors of the call are those of [Client.Exchange].
func (c *Client) Store(ctx context.Context, p StoreParams) (*StoreResult, error) {
	body, err := p.body()
	if err != nil {
		return nil, err
	}
	a, _, err := c.do(ctx, call{
		method:    http.MethodPost,
		path:      PathCredentials,
		token:     c.apiKey(),
		tokenName: apiKeyName,
		body:      body,
		secrets:   []secret.Text{p.AccessToken, p.RefreshToken},
		want:      []int{http.StatusCreated, http.StatusOK},
	})
	if err != nil {
		return nil, err
	}
	d := decode(a)
	result := &StoreResult{
		ID:             d.required("id"),
		PrincipalID:    d.required("principalId"),
		Service:        d.required("service"),
		CredentialType: d.text("credentialType"),
		CreatedAt:      d.time("createdAt"),
	}
	if err := d.err(a); err != nil {
		return nil, err
	}
	return result, nil
}

// body checks the parameters and returns what is sent.
func (p StoreParams) body() (*storeBody, error) {
	body := &storeBody{
		PrincipalID:    p.PrincipalID,
		Service:        p.Service,
		CredentialType: p.CredentialType,
	}
	switch {
	case p.PrincipalID == "":
		return nil, errors.New("the principal is missing")
	case !ValidService(p.Service):
		return nil, ErrInvalidService
	}
	if err := storeTokens(body, p); err != nil {
		return nil, err
	}
	if !p.TokenExpiresAt.IsZero() {
		expiry := p.TokenExpiresAt.UTC()
		if expiry.Year() < 1 || expiry.Year() > 9999 {
			return nil, errors.New("the expiry must be within the years 1 to 9999")
		}
		body.TokenExpiresAt = expiry.Format(momentLayout)
	}
	if len(p.Metadata) > 0 {
		var object bytes.Buffer
		if json.Compact(&object, p.Metadata) != nil || object.Bytes()[0] != '{' {
			return nil, errors.New("the metadata must be a JSON object")
		}
		body.Metadata = object.Bytes()
	}
	return body, nil
}
