package socketapi

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"

	"github.com/grantexd/grantexd/socketapi/wire"
)

// readObject reads the request's body, a JSON object. What it returns is not
// decoded further: encoding/json would match the names of fields in any case.
func (a *API) readObject(w http.ResponseWriter, r *http.Request) (map[string]json.RawMessage, error) {
	limit := a.options.MaxBodyBytes
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, limit))
	var tooLarge *http.MaxBytesError
	switch {
	case errors.As(err, &tooLarge):
		return nil, &wire.Error{
			Code: wire.CodePayloadTooLarge, Message: fmt.Sprintf("body is larger than %d bytes", limit),
		}
	case err != nil:
		return nil, badRequest("body did not arrive in time, or not as announced")
	}
	endBodyTime(w)

	mediaType, _, _ := mime.ParseMediaType(r.Header.Get("Content-Type"))
	if mediaType != "application/json" && (len(body) > 0 || mediaType != "") {
		return nil, &wire.Error{
			Code: wire.CodeUnsupportedMediaType, Message: "content type must be application/json",
		}
	}
	if len(body) == 0 {
		return nil, badRequest(messageBodyEmpty)
	}
	var object map[string]json.RawMessage
	if json.Unmarshal(body, &object) != nil || object == nil {
		// The error is not quoted: the body could hold anything.
		return nil, badRequest(messageBodyMalformed)
	}
	return object, nil
}

// stringField returns a field that must be a string that is not empty.
func stringField(object map[string]json.RawMessage, name, missing, notString string) (string, error) {
	var value *string
	if raw, ok := object[name]; ok {
		if err := json.Unmarshal(raw, &value); err != nil {
			return "", badRequest(notString)
		}
	}
	if value == nil || *value == "" {
		return "", badRequest(missing)
	}
	return *value, nil
}
