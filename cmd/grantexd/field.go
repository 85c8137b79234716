package main

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/grantexd/grantexd/socketapi/wire"
)

// metadataField begins the names of what is in a credential's metadata.
const metadataField = "metadata"

// fieldNames are the fields of a credential besides those of its metadata.
var fieldNames = []string{"accessToken", "credentialType", "tokenExpiresAt", "service", metadataField}

// fieldOf returns one field of a credential as text: a string as it is, anything
// else as JSON. "metadata.a.b" is b in a in the metadata. A token that never
// expires has an empty tokenExpiresAt.
func fieldOf(c *wire.Credential, name string) (string, error) {
	switch name {
	case "accessToken":
		return c.AccessToken.Reveal(), nil
	case "credentialType":
		return c.CredentialType, nil
	case "service":
		return c.Service, nil
	case "tokenExpiresAt":
		if c.TokenExpiresAt.IsZero() {
			return "", nil
		}
		return c.TokenExpiresAt.UTC().Format(wire.ExpiryLayout), nil
	case metadataField:
		return string(c.Metadata), nil
	}
	path, ok := strings.CutPrefix(name, metadataField+".")
	if !ok {
		return "", usagef("a credential has no field %s: there are %s and metadata.NAME", shown(name), strings.Join(fieldNames, ", "))
	}
	return metadataValue(c, path)
}

// metadataValue follows a path into the metadata.
func metadataValue(c *wire.Credential, path string) (string, error) {
	value := c.Metadata
	for step := range strings.SplitSeq(path, ".") {
		var object map[string]json.RawMessage
		if json.Unmarshal(value, &object) != nil || object[step] == nil {
			return "", withExit(exitNotFound, fmt.Errorf("the metadata of %s has no %s: see grantexd get %s --field metadata",
				c.Service, path, c.Service))
		}
		value = object[step]
	}
	var text string
	if json.Unmarshal(value, &text) == nil && len(value) > 0 && value[0] == '"' {
		return text, nil
	}
	return string(value), nil
}

// splitField takes SERVICE.FIELD apart. Names of services may hold dots too, so
// only the name of a field ends one.
func splitField(s string) (service, field string) {
	if i := strings.Index(s, "."+metadataField+"."); i > 0 {
		return s[:i], s[i+1:]
	}
	if i := strings.LastIndexByte(s, '.'); i > 0 && slices.Contains(fieldNames, s[i+1:]) {
		return s[:i], s[i+1:]
	}
	return s, "accessToken"
}
