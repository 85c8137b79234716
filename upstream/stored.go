package upstream

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/url"
	"time"
)

// apiKeyName is what errors call the token of the developer's calls.
const apiKeyName = "API key"

// StoredCredential is what the vault tells of a credential without its tokens.
type StoredCredential struct {
	// ID identifies the credential.
	ID string
	// PrincipalID is the end user who owns it.
	PrincipalID string
	// Service is the service's name.
	Service string
	// CredentialType is free text, for example "oauth2" or "api_key".
	CredentialType string
	// TokenExpiresAt is when the access token ends, in UTC with milliseconds,
	// zero if that is not known.
	TokenExpiresAt time.Time
	// Metadata is always a JSON object, as in [Credential].
	Metadata json.RawMessage
	// CreatedAt and UpdatedAt are when the credential was first and last
	// stored, in UTC with milliseconds.
	CreatedAt, UpdatedAt time.Time
}

// ListParams say which credentials to list. The zero value means all of them.
type ListParams struct {
	// PrincipalID and Service restrict the list, "" does not.
	PrincipalID, Service string
}

// List returns the developer's credentials, newest first, without tokens (GET
// /v1/vault/credentials, with the API key). It is empty, not nil, if there are
// none. The errors are those of [Client.Exchange].
func (c *Client) List(ctx context.Context, p ListParams) ([]StoredCredential, error) {
	query := url.Values{}
	if p.PrincipalID != "" {
		query.Set("principalId", p.PrincipalID)
	}
	if p.Service != "" {
		query.Set("service", p.Service)
	}
	a, _, err := c.do(ctx, call{
		method:    http.MethodGet,
		path:      PathCredentials,
		query:     query,
		token:     c.apiKey(),
		tokenName: apiKeyName,
		want:      []int{http.StatusOK},
	})
	if err != nil {
		return nil, err
	}
	return decodeList(a)
}

// decodeList reads the answer to a list.
func decodeList(a *answer) ([]StoredCredential, error) {
	d := decode(a)
	var items []json.RawMessage
	if d.reason == "" && (json.Unmarshal(d.fields["credentials"], &items) != nil || items == nil) {
		d.fail("credentials is not a list")
	}
	list := make([]StoredCredential, 0, len(items))
	for _, item := range items {
		element := decodeObject(item)
		list = append(list, element.stored())
		d.fail(element.reason)
	}
	if err := d.err(a); err != nil {
		return nil, err
	}
	return list, nil
}

// stored reads one credential.
func (d *decoder) stored() StoredCredential {
	return StoredCredential{
		ID:             d.required("id"),
		PrincipalID:    d.required("principalId"),
		Service:        d.required("service"),
		CredentialType: d.text("credentialType"),
		TokenExpiresAt: d.time("tokenExpiresAt"),
		Metadata:       d.metadata(),
		CreatedAt:      d.time("createdAt"),
		UpdatedAt:      d.time("updatedAt"),
	}
}

// Get returns what the vault tells of one credential (GET
// /v1/vault/credentials/{id}, with the API key). The errors are those of
// [Client.Exchange].
func (c *Client) Get(ctx context.Context, id string) (*StoredCredential, error) {
	if err := checkID(id); err != nil {
		return nil, err
	}
	a, _, err := c.do(ctx, call{
		method:    http.MethodGet,
		path:      PathCredentials,
		id:        id,
		token:     c.apiKey(),
		tokenName: apiKeyName,
		want:      []int{http.StatusOK},
	})
	if err != nil {
		return nil, err
	}
	d := decode(a)
	cred := d.stored()
	if err := d.err(a); err != nil {
		return nil, err
	}
	return &cred, nil
}

// Delete removes one credential from the vault (DELETE
// /v1/vault/credentials/{id}, with the API key). The errors are those of
// [Client.Exchange]; one that was not there is an [*Error] with status 404.
func (c *Client) Delete(ctx context.Context, id string) error {
	if err := checkID(id); err != nil {
		return err
	}
	_, attempts, err := c.do(ctx, call{
		method:    http.MethodDelete,
		path:      PathCredentials,
		id:        id,
		token:     c.apiKey(),
		tokenName: apiKeyName,
		want:      []int{http.StatusNoContent, http.StatusOK},
	})
	var refused *Error
	if attempts > 1 && errors.As(err, &refused) && refused.Status == http.StatusNotFound && refused.Code == "NOT_FOUND" {
		return nil // the first attempt deleted it, only its answer was lost
	}
	return err
}

// checkID refuses ids that would turn the call into another one.
func checkID(id string) error {
	switch id {
	case "":
		return errors.New("the credential's id is missing")
	case ".", "..":
		return errors.New("the credential's id is malformed")
	}
	return nil
}
