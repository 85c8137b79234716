package upstream

import (
	"bytes"
	"encoding/json"
)

// normalizeMetadata returns metadata as the object that the documents promise.
// The vault sends a string that holds JSON; a repaired one would send the object
// itself. What is no object once parsed is handed on as {"value": …}, what is
// missing as {}. Numbers stay as they are spelled. raw is valid JSON or empty.
func normalizeMetadata(raw json.RawMessage) json.RawMessage {
	value := raw
	var inner string
	if len(raw) > 0 && raw[0] == '"' && json.Unmarshal(raw, &inner) == nil {
		switch {
		case inner == "":
			value = nil
		case json.Valid([]byte(inner)):
			value = json.RawMessage(inner)
		}
	}
	var compact bytes.Buffer
	if len(value) > 0 && json.Compact(&compact, value) != nil {
		return json.RawMessage("{}") // can't be: it was valid
	}
	switch value = compact.Bytes(); {
	case len(value) == 0, string(value) == "null":
		return json.RawMessage("{}")
	case value[0] == '{':
		return value
	}
	return json.RawMessage(`{"value":` + string(value) + `}`)
}
