package devvault

import (
	"bytes"
	"encoding/json"
	"net/http"
	"strconv"
	"time"
)

// Codes of the vault's error body.
const (
	codeBadRequest   = "BAD_REQUEST"
	codeUnauthorized = "UNAUTHORIZED"
	codeForbidden    = "FORBIDDEN"
	codeNotFound     = "NOT_FOUND"
	codeInternal     = "INTERNAL_ERROR"
	codePlanLimit    = "RATE_LIMIT_EXCEEDED"
)

// answer is what the vault is about to say. It is a value, and not written at
// once, so that faults can bend it on its way.
type answer struct {
	status int
	// body is the whole body; nil means none and no content type.
	body []byte
	// contentType of the body, "" for JSON.
	contentType string
	// quota is told in the x-ratelimit headers; nil means that the call has
	// none.
	quota *quota
	// early marks an answer from before the step that adds the CORS headers:
	// rate limit and body parsing.
	early bool
	// closing asks for the end of the connection: the body was not read.
	closing bool
	// foreign marks an answer that is not the vault's but that of something
	// in front of it: none of the vault's headers.
	foreign bool
}

// jsonAnswer renders v as the vault does: compact, and without escaping what
// HTML would need escaped.
func jsonAnswer(status int, v any) answer {
	return answer{status: status, body: compactJSON(v)}
}

func compactJSON(v any) []byte {
	var buf bytes.Buffer
	enc := json.NewEncoder(&buf)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		// Only values of this package come here, and none of them can fail.
		panic("devvault: " + err.Error())
	}
	return bytes.TrimSuffix(buf.Bytes(), []byte("\n"))
}

// errorBody is the vault's error shape; the order of the members is the wire's.
type errorBody struct {
	Message   string `json:"message"`
	Code      string `json:"code"`
	RequestID string `json:"requestId"`
}

func errorAnswer(status int, code, message string) answer {
	return jsonAnswer(status, errorBody{Message: message, Code: code, RequestID: newRequestID()})
}

// One constructor for each of the vault's errors.

func missingGrantToken() answer {
	return errorAnswer(http.StatusUnauthorized, codeUnauthorized, "Missing grant token")
}

// invalidGrantToken is the answer to a malformed, forged, expired and revoked
// token alike: they can't be told apart.
func invalidGrantToken() answer {
	return errorAnswer(http.StatusUnauthorized, codeUnauthorized, "Invalid or expired grant token")
}

func missingAuthorization() answer {
	return errorAnswer(http.StatusUnauthorized, codeUnauthorized, "Missing or invalid Authorization header")
}

func invalidAPIKey() answer {
	return errorAnswer(http.StatusUnauthorized, codeUnauthorized, "Invalid API key")
}

func notScoped(service string) answer {
	return errorAnswer(http.StatusForbidden, codeForbidden,
		"Grant token is not scoped for "+service+" credential exchange")
}

func noCredential() answer {
	return errorAnswer(http.StatusNotFound, codeNotFound, "No credential found for this principal and service")
}

func credentialNotFound() answer {
	return errorAnswer(http.StatusNotFound, codeNotFound, "Credential not found")
}

func serviceRequired() answer {
	return errorAnswer(http.StatusBadRequest, codeBadRequest, "service is required")
}

func badServiceName() answer {
	return errorAnswer(http.StatusBadRequest, codeBadRequest,
		"service must be 1-64 characters and contain only letters, numbers, dot, underscore, or dash")
}

func storeFieldsRequired() answer {
	return errorAnswer(http.StatusBadRequest, codeBadRequest, "principalId, service, and accessToken are required")
}

func internalError() answer {
	return errorAnswer(http.StatusInternalServerError, codeInternal, "An unexpected error occurred")
}

func emptyBody() answer {
	a := errorAnswer(http.StatusBadRequest, codeBadRequest,
		"Body cannot be empty when content-type is set to 'application/json'")
	a.early, a.closing = true, true
	return a
}

func malformedBody() answer {
	a := errorAnswer(http.StatusBadRequest, codeBadRequest,
		"Body is not valid JSON but content-type is set to 'application/json'")
	a.early, a.closing = true, true
	return a
}

func bodyTooLarge() answer {
	a := errorAnswer(http.StatusRequestEntityTooLarge, codeBadRequest, "Request body is too large")
	a.early, a.closing = true, true
	return a
}

func unsupportedMediaType() answer {
	a := errorAnswer(http.StatusUnsupportedMediaType, codeBadRequest, "Unsupported Media Type")
	a.early = true
	return a
}

// tooManyRequests is the answer once q is used up. Its code is BAD_REQUEST,
// which is why clients have to branch on the status.
func tooManyRequests(q quota) answer {
	a := errorAnswer(http.StatusTooManyRequests, codeBadRequest,
		"Rate limit exceeded, retry in "+inWords(q.reset))
	a.early = true
	return a
}

// planLimitExceeded is the answer to an API key that has used up the calls of
// its developer's plan.
func planLimitExceeded(q quota) answer {
	return errorAnswer(http.StatusTooManyRequests, codePlanLimit,
		"Plan rate limit exceeded, retry in "+strconv.Itoa(seconds(q.reset))+" seconds")
}

// noSuchRoute is the answer to a wrong path with a good API key. It is not in
// the vault's error shape.
func noSuchRoute(method, path string) answer {
	return jsonAnswer(http.StatusNotFound, struct {
		Message    string `json:"message"`
		Error      string `json:"error"`
		StatusCode int    `json:"statusCode"`
	}{"Route " + method + ":" + path + " not found", "Not Found", http.StatusNotFound})
}

// headerTooLarge comes from below the vault's own code and has a shape of its
// own.
func headerTooLarge() answer {
	a := jsonAnswer(http.StatusRequestHeaderFieldsTooLarge, struct {
		Error      string `json:"error"`
		Message    string `json:"message"`
		StatusCode int    `json:"statusCode"`
	}{"Request Header Fields Too Large", "Exceeded maximum allowed HTTP header size", 431})
	a.contentType, a.foreign = "application/json", true
	return a
}

// inWords spells d, rounded up to whole seconds, as the vault's messages do: the
// largest unit alone, rounded half up.
func inWords(d time.Duration) string {
	n, unit := seconds(d), "second"
	switch {
	case n >= 86400:
		n, unit = (n+43200)/86400, "day"
	case n >= 3600:
		n, unit = (n+1800)/3600, "hour"
	case n >= 60:
		n, unit = (n+30)/60, "minute"
	}
	if n != 1 {
		unit += "s"
	}
	return strconv.Itoa(n) + " " + unit
}

// seconds rounds d up to whole seconds, so that waiting that long is always
// enough.
func seconds(d time.Duration) int {
	return int((d + time.Second - 1) / time.Second)
}

// setHeaders writes the headers of a: those that every answer of the vault has,
// and those of this one. now is the vault's clock.
func (a answer) setHeaders(h http.Header, now time.Time) {
	if a.body != nil {
		h.Set("Content-Type", a.contentType)
		if a.contentType == "" {
			h.Set("Content-Type", "application/json; charset=utf-8")
		}
		h.Set("Content-Length", strconv.Itoa(len(a.body)))
	}
	if a.closing {
		h.Set("Connection", "close")
	}
	if a.foreign {
		h["Date"] = nil // net/http must not add its own: nothing here knows the vault's clock
		return
	}
	h.Set("Date", now.UTC().Format(http.TimeFormat))
	if q := a.quota; q != nil {
		h.Set("X-Ratelimit-Limit", strconv.Itoa(q.limit))
		h.Set("X-Ratelimit-Remaining", strconv.Itoa(q.remaining))
		h.Set("X-Ratelimit-Reset", strconv.Itoa(seconds(q.reset)))
		if a.status == http.StatusTooManyRequests {
			h.Set("Retry-After", strconv.Itoa(seconds(q.reset)))
		}
	}
	if !a.early {
		h.Set("Vary", "Origin")
		h.Set("Access-Control-Allow-Credentials", "true")
		h.Set("Access-Control-Expose-Headers",
			"X-RateLimit-Limit, X-RateLimit-Remaining, X-RateLimit-Reset, Retry-After")
	}
	h.Set("Strict-Transport-Security", "max-age=31536000; includeSubDomains")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("X-Frame-Options", "DENY")
	h.Set("X-Xss-Protection", "0")
	h.Set("Referrer-Policy", "strict-origin-when-cross-origin")
	h.Set("Permissions-Policy", "camera=(), microphone=(), geolocation=()")
	h.Set("Cache-Control", "no-store")
	h.Set("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'; base-uri 'none'")
}
