package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"
)

// maxMetadata bounds the metadata of a credential, in bytes: the vault takes a
// megabyte in all.
const maxMetadata = 512 << 10

// readMetadata returns the JSON object that --metadata gives, itself or in the
// file behind an @; nil if text is "". No error quotes it.
func readMetadata(text string) (json.RawMessage, error) {
	if text == "" {
		return nil, nil
	}
	content := []byte(text)
	if path, isFile := strings.CutPrefix(text, "@"); isFile {
		var err error
		if content, err = readBounded(path, maxMetadata); err != nil {
			return nil, withExit(exitUsage, fmt.Errorf("--metadata: %w", err))
		}
	}
	if len(content) > maxMetadata {
		return nil, usagef("--metadata: it has more than %d KiB", maxMetadata>>10)
	}
	var object bytes.Buffer
	// The byte order mark is what some editors write.
	err := json.Compact(&object, bytes.TrimPrefix(content, []byte("\xef\xbb\xbf")))
	if err != nil || object.Bytes()[0] != '{' {
		return nil, usagef(`--metadata must be a JSON object, such as '{"login":"octocat"}', or @FILE for a file that holds one`)
	}
	return object.Bytes(), nil
}

// readBounded reads a file up to one byte more than limit.
func readBounded(path string, limit int64) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	return io.ReadAll(io.LimitReader(f, limit+1))
}
