package upstream

import (
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"strings"
)

// parseBaseURL reads the vault's address. Trailing slashes and a trailing /v1,
// which the paths of the calls begin with, are dropped. No error quotes the
// address, since it may hold a password.
func parseBaseURL(raw string) (*url.URL, error) {
	if raw == "" {
		return nil, errors.New("the vault's base URL is missing")
	}
	u, err := url.Parse(raw)
	if err != nil {
		return nil, errors.New("the vault's base URL can't be parsed: give it as https://host[:port][/prefix]")
	}
	switch {
	case u.Scheme != "https" && u.Scheme != "http", u.Hostname() == "":
		return nil, errors.New("the vault's base URL must be https://host[:port][/prefix]")
	case u.User != nil:
		return nil, errors.New("the vault's base URL must hold no user or password: the grant token is all that the vault asks for")
	case u.RawQuery != "" || u.ForceQuery || strings.Contains(raw, "#"):
		return nil, errors.New("the vault's base URL must have no query and no fragment")
	case u.Scheme == "http" && !isLoopback(u.Hostname()):
		return nil, fmt.Errorf("the vault's base URL must be https: over http to %q, which is not loopback, "+
			"anybody on the way could read the grant token", u.Hostname())
	}
	prefix := strings.TrimRight(u.EscapedPath(), "/")
	prefix = strings.TrimRight(strings.TrimSuffix(prefix, "/v1"), "/")
	if strings.Contains(prefix+"/", "/v1/vault/") {
		return nil, errors.New("the vault's base URL must end before /v1: the paths of the calls are added to it")
	}
	return &url.URL{Scheme: u.Scheme, Host: u.Host, Path: unescape(prefix), RawPath: prefix}, nil
}

// unescape undoes the escapes of a path that was parsed already.
func unescape(path string) string {
	plain, err := url.PathUnescape(path)
	if err != nil { // can't be, since url.Parse accepted it
		return path
	}
	return plain
}

// isLoopback reports whether host is this machine without asking a resolver,
// which could be made to lie.
func isLoopback(host string) bool {
	if strings.EqualFold(host, "localhost") {
		return true
	}
	ip, err := netip.ParseAddr(host)
	return err == nil && ip.IsLoopback()
}

// endpoint returns the address of path below base; an element is escaped and
// appended to it.
func endpoint(base *url.URL, path, element string) *url.URL {
	u := &url.URL{
		Scheme:  base.Scheme,
		Host:    base.Host,
		Path:    base.Path + path,
		RawPath: base.EscapedPath() + path,
	}
	if element != "" {
		u.Path += "/" + element
		u.RawPath += "/" + url.PathEscape(element)
	}
	return u
}
