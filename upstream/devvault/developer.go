package devvault

import (
	"bytes"
	"crypto/subtle"
	"encoding/json"
	"net/http"
	"time"

	"github.com/grantexd/grantexd/upstream/secret"
)

// credentialOnWire is a credential as the developer's calls tell it: without its
// token. The order of the members is the vault's.
type credentialOnWire struct {
	ID             string          `json:"id"`
	PrincipalID    string          `json:"principalId"`
	Service        string          `json:"service"`
	CredentialType string          `json:"credentialType"`
	TokenExpiresAt *string         `json:"tokenExpiresAt"`
	Metadata       json.RawMessage `json:"metadata"`
	CreatedAt      string          `json:"createdAt"`
	UpdatedAt      string          `json:"updatedAt"`
}

func (s *Server) onWire(c credential) credentialOnWire {
	return credentialOnWire{
		ID: c.id, PrincipalID: c.principal, Service: c.service, CredentialType: c.kind,
		TokenExpiresAt: expiryOnWire(c.expiresAt), Metadata: s.metadataOnWire(c.metadata),
		CreatedAt: isoTime(c.createdAt), UpdatedAt: isoTime(c.updatedAt),
	}
}

// checkAPIKey returns the answer to a request without the developer's API key,
// and nil for one that has it.
func (s *Server) checkAPIKey(r *http.Request) *answer {
	key, ok := bearer(r)
	if !ok {
		a := missingAuthorization()
		return &a
	}
	if subtle.ConstantTimeCompare([]byte(key), []byte(s.apiKey.Reveal())) != 1 {
		a := invalidAPIKey()
		return &a
	}
	return nil
}

// asDeveloper wraps a call that needs the API key. The limit of the developer's
// plan comes after it, and its headers replace those of the limit by address.
func (s *Server) asDeveloper(handle func(*call) answer) func(*call) answer {
	return func(c *call) answer {
		if refused := s.checkAPIKey(c.r); refused != nil {
			return *refused
		}
		q := s.limits.plan.count(DefaultDeveloper, time.Now())
		a := planLimitExceeded(q)
		if !q.exceeded {
			a = handle(c)
		}
		a.quota = &q
		return a
	}
}

func (s *Server) storeCredential(c *call) answer {
	a, _ := s.store(c.body, DefaultDeveloper)
	return a
}

// store stores the credential that body describes as developer's. The error is
// that of the data file, and its answer is the vault's "unexpected error".
func (s *Server) store(body requestBody, developer string) (answer, error) {
	if body.missing {
		return internalError(), nil
	}
	if body.falsy("principalId") || body.falsy("service") || body.falsy("accessToken") {
		return storeFieldsRequired(), nil
	}
	fresh, ok := s.credentialFrom(body)
	if !ok {
		return internalError(), nil
	}
	if !serviceName.MatchString(fresh.service) {
		return badServiceName(), nil
	}
	fresh.developer = developer
	kept, err := s.records.store(fresh)
	if err != nil {
		s.log.Error("credential not saved", "error", err)
		return internalError(), err
	}
	return jsonAnswer(http.StatusCreated, struct {
		ID             string `json:"id"`
		PrincipalID    string `json:"principalId"`
		Service        string `json:"service"`
		CredentialType string `json:"credentialType"`
		CreatedAt      string `json:"createdAt"`
	}{kept.id, kept.principal, kept.service, kept.kind, isoTime(kept.createdAt)}), nil
}

// credentialFrom reads a credential to be stored. It returns false where a
// member has a type that the vault trips over.
func (s *Server) credentialFrom(body requestBody) (credential, bool) {
	now := s.now()
	c := credential{
		id: newID("vault_", now), kind: "oauth2", metadata: json.RawMessage("{}"),
		createdAt: now, updatedAt: now,
	}
	var access, refresh string
	for name, into := range map[string]*string{
		"principalId": &c.principal, "service": &c.service, "accessToken": &access,
		"refreshToken": &refresh, "credentialType": &c.kind,
	} {
		if !body.given(name) {
			continue
		}
		text, ok := body.text(name)
		if !ok {
			return credential{}, false
		}
		*into = text
	}
	c.AccessToken, c.RefreshToken = secret.New(access), secret.New(refresh)
	if body.given("tokenExpiresAt") {
		t, ok := parseExpiry(body.members["tokenExpiresAt"])
		if !ok {
			return credential{}, false
		}
		c.expiresAt = &t
	}
	if body.given("metadata") {
		var compact bytes.Buffer
		if json.Compact(&compact, body.members["metadata"]) != nil {
			return credential{}, false
		}
		c.metadata = compact.Bytes()
	}
	return c, true
}

// listCredentials filters by exact names; a filter that is given empty matches
// nothing.
func (s *Server) listCredentials(c *call) answer {
	query := c.r.URL.Query()
	matches := func(filter, value string) bool { return !query.Has(filter) || query.Get(filter) == value }
	found := s.records.list(DefaultDeveloper, func(one credential) bool {
		return matches("principalId", one.principal) && matches("service", one.service)
	})
	list := make([]credentialOnWire, 0, len(found))
	for _, one := range found {
		list = append(list, s.onWire(one))
	}
	return jsonAnswer(http.StatusOK, struct {
		Credentials []credentialOnWire `json:"credentials"`
	}{list})
}

func (s *Server) getCredential(c *call) answer {
	found, ok := s.records.get(DefaultDeveloper, c.id)
	if !ok {
		return credentialNotFound()
	}
	return jsonAnswer(http.StatusOK, s.onWire(found))
}

func (s *Server) deleteCredential(c *call) answer {
	found, err := s.records.remove(DefaultDeveloper, c.id)
	switch {
	case err != nil:
		s.log.Error("credential not deleted", "error", err)
		return internalError()
	case !found:
		return credentialNotFound()
	}
	return answer{status: http.StatusNoContent}
}
