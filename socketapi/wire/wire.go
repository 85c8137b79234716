// Package wire is the language of the socket: the JSON types, error codes and
// header names that the server and the Go client share, and that clients in
// other languages can rely on.
package wire

import (
	"encoding/json"
	"log/slog"
	"net/http"
	"time"

	"github.com/grantexd/grantexd/upstream/secret"
)

// Paths of the API.
const (
	PathExchange    = "/v1/vault/credentials/exchange"
	PathCredentials = "/v1/credentials"
	PathExplain     = "/v1/explain"
	PathStatus      = "/v1/status"
	PathHealth      = "/healthz"
	PathReady       = "/readyz"
	PathMetrics     = "/metrics"
)

// Code is the machine-readable reason of an error. Scripts may branch on it.
type Code string

// The codes, each with the status that Code.Status returns.
const (
	CodeBadRequest           Code = "BAD_REQUEST"            // 400: service name or body malformed
	CodeUnauthorized         Code = "UNAUTHORIZED"           // 401: the vault rejected the grant, or it expired
	CodeForbidden            Code = "FORBIDDEN"              // 403: the grant's scopes don't cover the service
	CodePeerDenied           Code = "PEER_DENIED"            // 403: this caller may not read it here
	CodeForbiddenOrigin      Code = "FORBIDDEN_ORIGIN"       // 403: Origin, Referer or a foreign Host
	CodeNoSuchRoute          Code = "NO_SUCH_ROUTE"          // 404: no such path in this API
	CodeNotFound             Code = "NOT_FOUND"              // 404: the vault stores no credential for the service
	CodeMethodNotAllowed     Code = "METHOD_NOT_ALLOWED"     // 405
	CodePayloadTooLarge      Code = "PAYLOAD_TOO_LARGE"      // 413
	CodeUnsupportedMediaType Code = "UNSUPPORTED_MEDIA_TYPE" // 415
	CodeRateLimited          Code = "RATE_LIMITED"           // 429: no slot before the caller's deadline
	CodeCredentialExpired    Code = "CREDENTIAL_EXPIRED"     // 502: the vault holds an expired one
	CodeUpstreamError        Code = "UPSTREAM_ERROR"         // 502: the vault failed
	CodeGrantUnavailable     Code = "GRANT_UNAVAILABLE"      // 503: no grant file, or nothing usable in it
	CodeUpstreamTimeout      Code = "UPSTREAM_TIMEOUT"       // 504: the vault did not answer
	CodeInternal             Code = "INTERNAL"               // 500: a bug of ours; details in the log only
)

var statusOf = map[Code]int{
	CodeBadRequest:           http.StatusBadRequest,
	CodeUnauthorized:         http.StatusUnauthorized,
	CodeForbidden:            http.StatusForbidden,
	CodePeerDenied:           http.StatusForbidden,
	CodeForbiddenOrigin:      http.StatusForbidden,
	CodeNoSuchRoute:          http.StatusNotFound,
	CodeNotFound:             http.StatusNotFound,
	CodeMethodNotAllowed:     http.StatusMethodNotAllowed,
	CodePayloadTooLarge:      http.StatusRequestEntityTooLarge,
	CodeUnsupportedMediaType: http.StatusUnsupportedMediaType,
	CodeRateLimited:          http.StatusTooManyRequests,
	CodeCredentialExpired:    http.StatusBadGateway,
	CodeUpstreamError:        http.StatusBadGateway,
	CodeGrantUnavailable:     http.StatusServiceUnavailable,
	CodeUpstreamTimeout:      http.StatusGatewayTimeout,
	CodeInternal:             http.StatusInternalServerError,
}

// Status returns the HTTP status of c; 500 for a code that is not known.
func (c Code) Status() int {
	if s, ok := statusOf[c]; ok {
		return s
	}
	return http.StatusInternalServerError
}

// Error is the body of every answer that is not a success, in the vault's own
// shape, so that an SDK of the vault understands it.
type Error struct {
	// Message says what is wrong and what to do. It never holds a secret.
	Message string `json:"message"`
	// Code is the reason.
	Code Code `json:"code"`
	// RequestID is unique to this answer and stands in the daemon's log.
	RequestID string `json:"requestId"`
	// RetryAfter is in how many seconds it is worth asking again, rounded up;
	// 0 where waiting does not help. The Retry-After header says the same.
	RetryAfter int `json:"retryAfter,omitempty"`
	// UpstreamStatus is the vault's HTTP status, 0 if it did not answer.
	UpstreamStatus int `json:"upstreamStatus,omitempty"`
	// UpstreamRequestID is the vault's own id of the failed request, if any.
	UpstreamRequestID string `json:"upstreamRequestId,omitempty"`
}

// Error returns the message.
func (e *Error) Error() string { return e.Message }

// Credential is the body of a successful read, the same as the vault's.
// It marshals to JSON with its token: that is its purpose. Everything else that
// prints it redacts the token.
type Credential struct {
	// AccessToken is the service's token.
	AccessToken secret.Text
	// Service is the service's name.
	Service string
	// CredentialType is free text, for example "oauth2".
	CredentialType string
	// TokenExpiresAt is in UTC with milliseconds; zero (null in JSON) if the
	// vault knows no expiry.
	TokenExpiresAt time.Time
	// Metadata is a JSON object.
	Metadata json.RawMessage
}

// ExpiryLayout is how the vault writes an expiry, in UTC.
const ExpiryLayout = "2006-01-02T15:04:05.000Z"

type credentialJSON struct {
	AccessToken    string          `json:"accessToken"`
	Service        string          `json:"service"`
	CredentialType string          `json:"credentialType"`
	TokenExpiresAt *string         `json:"tokenExpiresAt"`
	Metadata       json.RawMessage `json:"metadata"`
}

// MarshalJSON renders the credential with its token.
func (c Credential) MarshalJSON() ([]byte, error) {
	out := credentialJSON{
		AccessToken: c.AccessToken.Reveal(), Service: c.Service,
		CredentialType: c.CredentialType, Metadata: c.Metadata,
	}
	if !c.TokenExpiresAt.IsZero() {
		s := c.TokenExpiresAt.UTC().Format(ExpiryLayout)
		out.TokenExpiresAt = &s
	}
	if len(out.Metadata) == 0 {
		out.Metadata = json.RawMessage("{}")
	}
	return json.Marshal(out)
}

// UnmarshalJSON reads what MarshalJSON wrote.
func (c *Credential) UnmarshalJSON(b []byte) error {
	var in credentialJSON
	if err := json.Unmarshal(b, &in); err != nil {
		// encoding/json quotes no values but single characters and type
		// names, so its error holds no token.
		return err
	}
	out := Credential{
		AccessToken: secret.New(in.AccessToken), Service: in.Service,
		CredentialType: in.CredentialType, Metadata: in.Metadata,
	}
	if in.TokenExpiresAt != nil {
		t, err := time.Parse(time.RFC3339, *in.TokenExpiresAt)
		if err != nil {
			return err
		}
		out.TokenExpiresAt = t.UTC()
	}
	*c = out
	return nil
}

// LogValue names the credential without its token.
func (c Credential) LogValue() slog.Value {
	return slog.GroupValue(slog.String("service", c.Service), slog.Any("access_token", c.AccessToken))
}

// Exchange is the body of POST /v1/vault/credentials/exchange.
type Exchange struct {
	Service string `json:"service"`
}

// Rejected is the body of POST /v1/credentials/{service}/rejected.
type Rejected struct {
	// Fingerprint is the ETag, without its quotes, of the credential that the
	// service refused.
	Fingerprint string `json:"fingerprint"`
}
