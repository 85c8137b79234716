package daemon

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"path/filepath"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"

	"github.com/grantexd/grantexd/upstream"
)

// check says what is wrong with a value of the right type, nil if nothing is. It
// never quotes the value: somebody may have put a token there.
type check func(value any) error

// between checks a duration.
func between(low, high time.Duration) check {
	return func(value any) error {
		if d, _ := value.(time.Duration); d < low || d > high {
			return fmt.Errorf("must be from %s to %s", brief(low), brief(high))
		}
		return nil
	}
}

// within checks a whole number.
func within(low, high int64) check {
	return func(value any) error {
		if n := reflect.ValueOf(value).Int(); n < low || n > high {
			return fmt.Errorf("must be from %d to %d", low, high)
		}
		return nil
	}
}

// fraction checks a part of one.
func fraction(low, high float64) check {
	return func(value any) error {
		// Written so that NaN is refused.
		if f, _ := value.(float64); !(f >= low && f <= high) {
			return fmt.Errorf("must be from %g to %g", low, high)
		}
		return nil
	}
}

func oneOf(words ...string) check {
	return func(value any) error {
		word, _ := value.(string)
		if slices.Contains(words, word) {
			return nil
		}
		err := fmt.Errorf("must be one of %s", strings.Join(words, ", "))
		if near := nearest(strings.ToLower(word), words); near != "" {
			err = fmt.Errorf("%w; did you mean %s?", err, near)
		}
		return err
	}
}

func checkUpstream(value any) error {
	address, _ := value.(string)
	// The client itself says what it takes. The transport is never used, so no
	// certificates are read.
	_, err := upstream.New(upstream.Options{BaseURL: address, Transport: unusedTransport{}})
	if err == nil {
		return nil
	}
	problem := strings.TrimPrefix(err.Error(), "the vault's base URL ")
	if strings.Contains(problem, `"`) { // it quotes the host, which could be anything
		problem = "must be https: over http to a host that is not loopback anybody on the way could read the grant token"
	}
	return errors.New(problem)
}

// unusedTransport stands where a transport must be that is never used.
type unusedTransport struct{}

func (unusedTransport) RoundTrip(*http.Request) (*http.Response, error) {
	return nil, errors.New("not used")
}

// maxSocketPath is the longest path of a Unix socket (sun_path in unix(7), less
// its final NUL).
const maxSocketPath = 107

func checkSocket(value any) error {
	path, _ := value.(string)
	switch {
	case path == "":
		return errors.New("is empty: give the path of a socket")
	case strings.HasPrefix(path, "@"):
		return errors.New("is an abstract socket, which has no mode to keep others out: give a path")
	case strings.HasSuffix(path, "/"):
		return errors.New("is a directory: add the name of the socket")
	case len(path) > maxSocketPath:
		return fmt.Errorf("has %d bytes, and a socket's path at most %d: choose a shorter one", len(path), maxSocketPath)
	}
	return nil
}

func checkMode(value any) error {
	m, _ := value.(Mode)
	switch {
	case m&^0o777 != 0:
		return errors.New("must be permissions only, at most 0777")
	case m&0o600 != 0o600:
		return errors.New("must let the daemon's own user read and write, 0600 at least")
	}
	return nil
}

// checkLoopback admits what [socketapi.ListenTCP] listens on.
func checkLoopback(value any) error {
	address, _ := value.(string)
	if address == "" {
		return nil
	}
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return errors.New("must be host:port, for example 127.0.0.1:8377")
	}
	if _, err := strconv.ParseUint(port, 10, 16); err != nil {
		return errors.New("must end in a port, a number up to 65535")
	}
	if ip, err := netip.ParseAddr(host); !strings.EqualFold(host, "localhost") && (err != nil || !ip.Unmap().IsLoopback()) {
		return errors.New("must be a loopback address, 127.0.0.1, [::1] or localhost: other machines must not reach it")
	}
	return nil
}

func checkServices(value any) error {
	names, _ := value.([]string)
	for i, name := range names {
		if !upstream.ValidService(name) {
			return fmt.Errorf("entry %d is no name of a service", i+1)
		}
		if slices.Contains(names[:i], name) {
			return fmt.Errorf("entry %d is there twice", i+1)
		}
	}
	return nil
}

func notEmpty(value any) error {
	if value == "" {
		return errors.New("is empty: give a path")
	}
	return nil
}

// checkPath admits "", which stands for a default or for none where notEmpty
// doesn't say otherwise.
func checkPath(path string) error {
	if path != "" && !filepath.IsAbs(path) {
		return errors.New("must be an absolute path, since a service has no directory of its own to begin at")
	}
	return nil
}

// setText puts a written value into a field. Its errors say what should have been
// written and never quote what was.
func setText(field reflect.Value, text string) error {
	if strings.ContainsFunc(text, unicode.IsControl) {
		return errors.New("holds a control character, such as a line break")
	}
	switch field.Interface().(type) {
	case time.Duration:
		if _, err := strconv.ParseFloat(text, 64); err == nil {
			return errors.New(`has no unit: write one, for example "30s", "5m" or "1h"`)
		}
		d, err := time.ParseDuration(text)
		if err != nil {
			return errors.New(`is no duration: write a number and its unit, for example "30s", "5m" or "1h"`)
		}
		field.SetInt(int64(d))
	case Mode:
		m, err := strconv.ParseUint(strings.TrimPrefix(text, "0o"), 8, 32)
		if err != nil {
			return errors.New(`is no mode: write it in octal, for example "0660"`)
		}
		field.SetUint(m)
	case bool:
		if text != "true" && text != "false" {
			return errors.New("must be true or false")
		}
		field.SetBool(text == "true")
	case int, int64:
		n, err := strconv.ParseInt(text, 10, 32) // every bound is far below
		if err != nil {
			return errors.New("must be a whole number, and no huge one")
		}
		field.SetInt(n)
	case float64:
		f, err := strconv.ParseFloat(text, 64)
		if err != nil {
			return errors.New("must be a number, for example 0.2")
		}
		field.SetFloat(f)
	case []string:
		var list []string
		for entry := range strings.SplitSeq(text, ",") {
			if entry = strings.TrimSpace(entry); entry != "" {
				list = append(list, entry)
			}
		}
		field.Set(reflect.ValueOf(list))
	default:
		field.SetString(text)
	}
	return nil
}

// textOf is a field as setText reads it.
func textOf(field reflect.Value) string {
	switch v := field.Interface().(type) {
	case time.Duration:
		return brief(v)
	case []string:
		return strings.Join(v, ",")
	default:
		return fmt.Sprint(v)
	}
}

// String returns the mode as it is written, "0660".
func (m Mode) String() string { return fmt.Sprintf("%04o", uint32(m)) }

// brief writes a duration without the zeros that time.Duration appends: "5m".
func brief(d time.Duration) string {
	s := d.String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}
