package upstream

import (
	"encoding/json"
	"time"

	"github.com/grantexd/grantexd/upstream/secret"
)

// Credential is what an exchange returns: the credential of one service.
type Credential struct {
	// AccessToken is the service's own token, as it was stored.
	AccessToken secret.Text
	// Service is the service's name as the vault spells it.
	Service string
	// CredentialType is free text, for example "oauth2" or "api_key".
	CredentialType string
	// TokenExpiresAt is when the service stops accepting the token, in UTC
	// with milliseconds. The zero value means that no expiry is known.
	TokenExpiresAt time.Time
	// Metadata is always a JSON object, "{}" if there is none. Where the vault
	// stored something else, it is handed on as {"value": …}.
	Metadata json.RawMessage
	// Date is the vault's own clock as it answered, from the Date header, with
	// a resolution of one second. Zero if the answer had none.
	Date time.Time
	// RequestID is the vault's id of the exchange where it gave one, else "".
	RequestID string
}
