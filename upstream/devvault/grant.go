package devvault

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/grantexd/grantexd/upstream/secret"
)

const (
	// DefaultPrincipal is whose credentials a grant opens unless it says
	// otherwise.
	DefaultPrincipal = "user_dev"
	// DefaultDeveloper is the developer whose API key the vault knows, and who
	// owns what is stored with it.
	DefaultDeveloper = "dev_local"
	// DefaultLife is the life of a grant, as the vault has it.
	DefaultLife = 24 * time.Hour
	// issuer is a name that can never exist (RFC 2606), so that no verifier
	// takes these tokens for those of the hosted service.
	issuer = "https://devvault.invalid"
	// scopeEverything lets a grant exchange the credential of any service.
	scopeEverything = "vault:credentials:exchange"
)

// ErrUnknownGrant is returned for a grant id that this vault did not make.
var ErrUnknownGrant = errors.New("no such grant")

// Claims are what a grant token says. The names on the wire are the vault's;
// there are neither nbf nor aud.
type Claims struct {
	Issuer    string           `json:"iss"`
	Principal string           `json:"sub"`
	Developer string           `json:"dev"`
	Agent     string           `json:"agt"` // the agent's DID
	Scopes    []string         `json:"scp"`
	GrantID   string           `json:"grnt"`
	TokenID   string           `json:"jti"`
	IssuedAt  *jwt.NumericDate `json:"iat"`
	ExpiresAt *jwt.NumericDate `json:"exp"`
}

// GetExpirationTime implements [jwt.Claims].
func (c Claims) GetExpirationTime() (*jwt.NumericDate, error) { return c.ExpiresAt, nil }

// GetIssuedAt implements [jwt.Claims].
func (c Claims) GetIssuedAt() (*jwt.NumericDate, error) { return c.IssuedAt, nil }

// GetNotBefore implements [jwt.Claims]; grant tokens have none.
func (Claims) GetNotBefore() (*jwt.NumericDate, error) { return nil, nil }

// GetIssuer implements [jwt.Claims].
func (c Claims) GetIssuer() (string, error) { return c.Issuer, nil }

// GetSubject implements [jwt.Claims].
func (c Claims) GetSubject() (string, error) { return c.Principal, nil }

// GetAudience implements [jwt.Claims]; grant tokens have none here.
func (Claims) GetAudience() (jwt.ClaimStrings, error) { return nil, nil }

// MintParams describe a grant to be made. The zero value is a grant of
// [DefaultPrincipal] to a new agent that opens every service for 24 hours.
type MintParams struct {
	// Scopes default to vault:credentials:exchange, which opens every service.
	Scopes []string
	// Life is how long the grant lives; zero means [DefaultLife], and a
	// negative one makes a token that has expired already. Tokens tell whole
	// seconds.
	Life time.Duration
	// Principal is whose credentials it opens; "" means [DefaultPrincipal].
	Principal string
	// Developer owns the credentials; "" means the vault's own developer.
	Developer string
	// Agent is the agent's DID; "" means a new one.
	Agent string
	// GrantID is the grant's id; "" means a new one.
	GrantID string
}

// Grant is what the vault knows of a grant that it made.
type Grant struct {
	ID        string    `json:"grantId"`
	Principal string    `json:"principalId"`
	Developer string    `json:"developerId"`
	Agent     string    `json:"agentId"`
	Scopes    []string  `json:"scopes"`
	ExpiresAt time.Time `json:"expiresAt"`
	Revoked   bool      `json:"revoked"`
}

// Mint makes a grant and its first token. It fails if the grant's id is taken,
// or if the grant can't be saved.
func (s *Server) Mint(p MintParams) (secret.Text, Claims, error) {
	now := s.now()
	if p.Life == 0 {
		p.Life = DefaultLife
	}
	if len(p.Scopes) == 0 {
		p.Scopes = []string{scopeEverything}
	}
	g := Grant{
		ID:        orElse(p.GrantID, func() string { return newID("grnt_", now) }),
		Principal: orElse(p.Principal, func() string { return DefaultPrincipal }),
		Developer: orElse(p.Developer, func() string { return DefaultDeveloper }),
		Agent:     orElse(p.Agent, func() string { return newID("did:grantex:ag_", now) }),
		Scopes:    slices.Clone(p.Scopes),
		ExpiresAt: now.Add(p.Life).UTC().Truncate(time.Second),
	}
	if err := s.records.addGrant(g); err != nil {
		return secret.Text{}, Claims{}, err
	}
	return s.sign(g)
}

// Refresh makes another token of a grant: a new token id, and the same expiry as
// before. Older tokens stay valid. It returns [ErrUnknownGrant] for a grant that
// was not made here; a revoked grant gets a token too, which nothing accepts.
func (s *Server) Refresh(grantID string) (secret.Text, Claims, error) {
	g, ok := s.records.grant(grantID)
	if !ok {
		return secret.Text{}, Claims{}, ErrUnknownGrant
	}
	return s.sign(g)
}

// Revoke ends a grant with all its tokens, for good. It returns
// [ErrUnknownGrant] for a grant that was not made here; revoking one twice is
// fine.
func (s *Server) Revoke(grantID string) error { return s.records.revokeGrant(grantID) }

// Grants returns all grants, in the order of their ids.
func (s *Server) Grants() []Grant { return s.records.grants() }

func (s *Server) sign(g Grant) (secret.Text, Claims, error) {
	now := s.now()
	claims := Claims{
		Issuer: issuer, Principal: g.Principal, Developer: g.Developer, Agent: g.Agent,
		Scopes: g.Scopes, GrantID: g.ID, TokenID: newID("tok_", now),
		IssuedAt: jwt.NewNumericDate(now), ExpiresAt: jwt.NewNumericDate(g.ExpiresAt),
	}
	token := jwt.NewWithClaims(jwt.SigningMethodRS256, claims)
	token.Header = map[string]any{"alg": "RS256", "kid": s.keys.kid()} // no typ
	text, err := token.SignedString(s.keys.rsa)
	if err != nil {
		return secret.Text{}, Claims{}, fmt.Errorf("signing a grant token: %w", err)
	}
	return secret.New(text), claims, nil
}

// verify returns the claims of a token that this vault signed. accepted tells
// whether it also lives and was not revoked; without a good signature, the
// claims are empty.
func (s *Server) verify(token string) (claims Claims, accepted bool) {
	// kid is not looked at: the vault knows only one key.
	key := func(*jwt.Token) (any, error) { return &s.keys.rsa.PublicKey, nil }
	_, err := jwt.ParseWithClaims(token, &claims, key,
		jwt.WithValidMethods([]string{"RS256"}), jwt.WithTimeFunc(s.now), jwt.WithExpirationRequired())
	if err != nil && !errors.Is(err, jwt.ErrTokenInvalidClaims) {
		return Claims{}, false
	}
	g, known := s.records.grant(claims.GrantID)
	return claims, err == nil && known && !g.Revoked
}

// opens reports whether one of the scopes allows the exchange for service. Case
// does not matter to it.
func opens(scopes []string, service string) bool {
	service = strings.ToLower(service)
	return slices.ContainsFunc(scopes, func(scope string) bool {
		switch strings.ToLower(scope) {
		case "*", scopeEverything,
			service + ":*", service + ":read", service + ":credentials:read",
			"vault:" + service + ":*", "vault:" + service + ":read":
			return true
		}
		return false
	})
}

func orElse(s string, other func() string) string {
	if s != "" {
		return s
	}
	return other()
}
