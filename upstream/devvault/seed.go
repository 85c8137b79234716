package devvault

import (
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/grantexd/grantexd/upstream/secret"
)

const (
	digits       = "0123456789"
	alphanumeric = digits + "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
)

// CredentialParams describe a credential to be stored.
type CredentialParams struct {
	// Principal is whose credential it is; "" means [DefaultPrincipal].
	Principal string
	// Developer is whose it is; "" means [DefaultDeveloper].
	Developer string
	// Service is required; it is found only as it is spelled here.
	Service string
	// AccessToken is required.
	AccessToken secret.Text
	// RefreshToken is kept and never told.
	RefreshToken secret.Text
	// Type is free text; "" means "oauth2".
	Type string
	// ExpiresAt is when the token ends; the zero value means that no expiry
	// is known. It may be past.
	ExpiresAt time.Time
	// Metadata is any JSON; nil means an empty object.
	Metadata json.RawMessage
}

// Store stores a credential and returns its id, which stays if it replaces
// another one of the same developer, principal and service.
func (s *Server) Store(p CredentialParams) (id string, err error) {
	now := s.now()
	c := credential{
		id:        newID("vault_", now),
		developer: orElse(p.Developer, func() string { return DefaultDeveloper }),
		principal: orElse(p.Principal, func() string { return DefaultPrincipal }),
		service:   p.Service, kind: orElse(p.Type, func() string { return "oauth2" }),
		AccessToken: p.AccessToken, RefreshToken: p.RefreshToken,
		metadata:  p.Metadata,
		createdAt: now, updatedAt: now,
	}
	if c.metadata == nil {
		c.metadata = json.RawMessage("{}")
	}
	if !p.ExpiresAt.IsZero() {
		t := p.ExpiresAt.UTC().Truncate(time.Millisecond)
		c.expiresAt = &t
	}
	switch {
	case !serviceName.MatchString(c.service):
		return "", fmt.Errorf("service %q is not 1-64 letters, numbers, dots, underscores and dashes", c.service)
	case c.AccessToken.IsZero():
		return "", errors.New("no access token")
	case !json.Valid(c.metadata):
		return "", errors.New("metadata is not JSON")
	}
	c, err = s.records.store(c)
	return c.id, err
}

// seededLife is the life of the GitHub token that [Server.Seed] makes up: that
// of the user tokens of a GitHub App.
const seededLife = 8 * time.Hour

// Seed stores credentials to play with for [DefaultPrincipal]: one for github,
// which expires in eight hours, and one for slack, which does not expire. Their
// tokens are made up anew, in the shape of real ones. Credentials that are there
// already stay, unless they have expired.
func (s *Server) Seed() error {
	for _, p := range []CredentialParams{
		{
			Service:     "github",
			AccessToken: secret.New("gho_" + randomText(alphanumeric, 36)),
			ExpiresAt:   s.now().Add(seededLife),
			Metadata:    json.RawMessage(`{"login":"octocat","scopes":["repo","read:org"]}`),
		},
		{
			Service: "slack",
			AccessToken: secret.New("xoxb-" + randomText(digits, 12) + "-" + randomText(digits, 13) +
				"-" + randomText(alphanumeric, 24)),
			Metadata: json.RawMessage(`{"team":"Octo","bot":"octobot"}`),
		},
	} {
		old, there := s.records.find(owner{DefaultDeveloper, DefaultPrincipal, p.Service})
		if there && (old.expiresAt == nil || old.expiresAt.After(s.now())) {
			continue
		}
		if _, err := s.Store(p); err != nil {
			return fmt.Errorf("storing made-up credentials: %w", err)
		}
	}
	return nil
}
