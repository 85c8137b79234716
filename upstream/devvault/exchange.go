package devvault

import (
	"encoding/json"
	"net/http"
	"time"
)

// exchange answers the exchange, checking in the vault's order: token, service
// name, scope, and then whether there is anything to give.
func (s *Server) exchange(c *call) answer {
	token, ok := bearer(c.r)
	if !ok {
		return missingGrantToken()
	}
	claims, ok := s.verify(token)
	if !ok {
		return invalidGrantToken()
	}
	if c.body.missing {
		return internalError()
	}
	if c.body.falsy("service") {
		return serviceRequired()
	}
	service, ok := c.body.text("service")
	switch {
	case !ok:
		return internalError() // not a string
	case !serviceName.MatchString(service):
		return badServiceName()
	case !opens(claims.Scopes, service):
		return notScoped(service)
	}
	found, ok := s.records.find(owner{claims.Developer, claims.Principal, service})
	if !ok {
		return noCredential()
	}
	// One whose expiry is past is an answer like any other.
	return jsonAnswer(http.StatusOK, struct {
		AccessToken    string          `json:"accessToken"`
		Service        string          `json:"service"`
		CredentialType string          `json:"credentialType"`
		TokenExpiresAt *string         `json:"tokenExpiresAt"`
		Metadata       json.RawMessage `json:"metadata"`
	}{
		found.AccessToken.Reveal(), found.service, found.kind,
		expiryOnWire(found.expiresAt), s.metadataOnWire(found.metadata),
	})
}

func expiryOnWire(t *time.Time) *string {
	if t == nil {
		return nil
	}
	text := isoTime(*t)
	return &text
}

// metadataOnWire renders metadata in the service's way, a string that holds
// JSON, or in the way that is documented.
func (s *Server) metadataOnWire(metadata json.RawMessage) json.RawMessage {
	if s.opts.MetadataAsObject {
		return metadata
	}
	return compactJSON(string(metadata))
}
