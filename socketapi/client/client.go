package client

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/grantexd/grantexd/socketapi/wire"
)

const (
	// host is the Host of every request, one of the two that the daemon takes.
	host = "grantexd"
	// maxAnswer bounds what is read of an answer: the vault's own limit for a
	// credential, and far above the rest.
	maxAnswer = 2 << 20
	// idleTimeout closes connections before the daemon does (after two
	// minutes), so that no request meets a connection that is being closed.
	idleTimeout = 30 * time.Second
)

// Client asks a daemon over its socket. The zero value is ready to use and asks
// [DefaultSocket]. It is safe for concurrent use, keeps connections open between
// calls, and must not be copied after its first use.
type Client struct {
	// Socket is the path of the daemon's socket; "" means DefaultSocket(), as
	// it is at the first call.
	Socket string

	once      sync.Once
	transport *http.Transport
}

// GetOptions say how a credential is asked for.
type GetOptions struct {
	// Wait is how long the daemon may take to get it; 0 leaves that to the
	// daemon (10 s unless it is configured otherwise), and it allows 60 s at
	// most. A negative one means not to wait at all.
	Wait time.Duration
	// NoCache asks for a new exchange with the vault, within the budget.
	NoCache bool
}

// Meta is what an answer says about a credential besides the credential.
type Meta struct {
	// Fingerprint stands for the token; it is what [Client.Rejected] takes. It
	// is no secret.
	Fingerprint string
	// CacheStatus is the Cache-Status header (RFC 9211).
	CacheStatus string
	// Age is the time since the vault last answered with it, in whole seconds.
	Age time.Duration
}

// Get returns the credential of a service.
func (c *Client) Get(ctx context.Context, service string, o GetOptions) (*wire.Credential, Meta, error) {
	header := http.Header{}
	if o.Wait != 0 {
		header.Set("Prefer", "wait="+strconv.FormatFloat(max(o.Wait, 0).Seconds(), 'f', -1, 64))
	}
	if o.NoCache {
		header.Set("Cache-Control", "no-cache")
	}
	return c.credential(ctx, http.MethodGet, servicePath(wire.PathCredentials, service), header, nil)
}

// Rejected tells the daemon that the service refused the credential with the
// given fingerprint, and returns the one to use instead.
func (c *Client) Rejected(ctx context.Context, service, fingerprint string) (*wire.Credential, Meta, error) {
	return c.credential(ctx, http.MethodPost, servicePath(wire.PathCredentials, service)+"/rejected",
		http.Header{}, wire.Rejected{Fingerprint: fingerprint})
}

// List returns what the daemon holds and the caller may read, without tokens.
func (c *Client) List(ctx context.Context) (wire.CredentialList, error) {
	var list wire.CredentialList
	return list, c.query(ctx, wire.PathCredentials, &list)
}

// Explain says what a read of service would meet. As is "" for the caller
// itself, or "uid:gid" for another one, which only root and the daemon's own user
// may ask.
func (c *Client) Explain(ctx context.Context, service, as string) (wire.Explanation, error) {
	path := servicePath(wire.PathExplain, service)
	if as != "" {
		path += "?as=" + url.QueryEscape(as)
	}
	var explanation wire.Explanation
	return explanation, c.query(ctx, path, &explanation)
}

// Status describes the daemon.
func (c *Client) Status(ctx context.Context) (wire.Status, error) {
	var status wire.Status
	return status, c.query(ctx, wire.PathStatus, &status)
}

// Health returns nil if the daemon is alive.
func (c *Client) Health(ctx context.Context) error { return c.query(ctx, wire.PathHealth, nil) }

// Ready returns nil if the daemon can answer reads, else the reason.
func (c *Client) Ready(ctx context.Context) error { return c.query(ctx, wire.PathReady, nil) }

// CloseIdleConnections closes the connections that no call uses at the moment.
func (c *Client) CloseIdleConnections() {
	c.init()
	c.transport.CloseIdleConnections()
}

func (c *Client) init() {
	c.once.Do(func() {
		path, connect := c.Socket, dial
		if path == "" {
			path, connect = DefaultSocket(), dialDefault
		}
		c.transport = &http.Transport{
			DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
				return connect(ctx, path)
			},
			DisableCompression:  true,
			MaxIdleConnsPerHost: 64,
			IdleConnTimeout:     idleTimeout,
		}
	})
}

// servicePath is the path of a service. A name that is none is refused by the
// daemon, which must see it as the caller spelled it.
func servicePath(prefix, service string) string { return prefix + "/" + url.PathEscape(service) }

// credential makes a call that is answered with a credential.
func (c *Client) credential(
	ctx context.Context, method, path string, header http.Header, body any,
) (*wire.Credential, Meta, error) {
	answer, answerHeader, err := c.do(ctx, method, path, header, body)
	if err != nil {
		return nil, Meta{}, err
	}
	var credential wire.Credential
	if json.Unmarshal(answer, &credential) != nil || credential.AccessToken.IsZero() {
		// Neither the answer nor what is wrong with it is quoted: it holds a token.
		return nil, Meta{}, errNotGrantexd
	}
	age, _ := strconv.ParseUint(answerHeader.Get("Age"), 10, 31) // 0 if there is none
	return &credential, Meta{
		Fingerprint: strings.Trim(answerHeader.Get("ETag"), `"`),
		CacheStatus: answerHeader.Get("Cache-Status"),
		Age:         time.Duration(age) * time.Second,
	}, nil
}

// query makes a call that changes nothing and decodes its answer into result,
// unless that is nil.
func (c *Client) query(ctx context.Context, path string, result any) error {
	answer, _, err := c.do(ctx, http.MethodGet, path, http.Header{}, nil)
	if err != nil || result == nil {
		return err
	}
	if err := json.Unmarshal(answer, result); err != nil {
		return fmt.Errorf("%w: %w", errNotGrantexd, err)
	}
	return nil
}

// errNotGrantexd means that something else listens on the socket.
var errNotGrantexd = errors.New("the answer is not grantexd's; does something else listen on the socket?")

// do makes one call and returns the body of its answer.
func (c *Client) do(ctx context.Context, method, path string, header http.Header, body any) ([]byte, http.Header, error) {
	c.init()
	var content io.Reader
	if body != nil {
		encoded, err := json.Marshal(body)
		if err != nil {
			return nil, nil, err
		}
		content = bytes.NewReader(encoded)
		header.Set("Content-Type", "application/json")
	}
	request, err := http.NewRequestWithContext(ctx, method, "http://"+host+path, content)
	if err != nil {
		return nil, nil, err
	}
	request.Header = header
	response, err := c.transport.RoundTrip(request)
	if err != nil {
		return nil, nil, err
	}
	defer func() { _ = response.Body.Close() }()
	answer, err := io.ReadAll(io.LimitReader(response.Body, maxAnswer))
	if err != nil {
		return nil, nil, fmt.Errorf("reading grantexd's answer: %w", err)
	}
	if response.StatusCode != http.StatusOK {
		return nil, nil, answeredError(response.StatusCode, answer)
	}
	return answer, response.Header, nil
}

// answeredError is the error that the daemon answered with.
func answeredError(status int, answer []byte) error {
	var e wire.Error
	if json.Unmarshal(answer, &e) != nil || e.Code == "" {
		return fmt.Errorf("%w (status %d)", errNotGrantexd, status)
	}
	return &e
}
