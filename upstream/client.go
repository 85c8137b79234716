package upstream

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"time"

	"github.com/grantexd/grantexd/upstream/clock"
	"github.com/grantexd/grantexd/upstream/secret"
)

// The defaults of [Options].
const (
	// DefaultAttemptTimeout ends an attempt. The vault can hang for 30
	// seconds; those who wait for it can't.
	DefaultAttemptTimeout = 10 * time.Second
	// DefaultRetryWaitMin and DefaultRetryWaitMax bound the wait before the
	// one retry: long enough for a load balancer to notice a dead server,
	// short enough for whoever waits.
	DefaultRetryWaitMin = 200 * time.Millisecond
	DefaultRetryWaitMax = 500 * time.Millisecond
	// DefaultUserAgent is sent if no other is given.
	DefaultUserAgent = "grantexd"
)

// Options say where the vault is and how to talk to it. Only BaseURL is
// required.
type Options struct {
	// BaseURL is the vault's address without /v1, such as
	// https://api.grantex.dev; a path before /v1 is kept. It must be https
	// except to loopback, and hold no user, query or fragment. Required.
	BaseURL string
	// APIKey is the developer's key, which all calls but Exchange and Health
	// need.
	APIKey secret.Text
	// Transport makes the attempts. Nil means one from [NewTransport] with
	// CAFile.
	Transport http.RoundTripper
	// CAFile names a file of certificates (PEM) to trust besides the system's.
	// It can't be combined with Transport, which has its own.
	CAFile string
	// Wrap, if it is not nil, puts a layer around each single attempt, retries
	// included: that of the package budget, which lets them leave in time. The
	// time that an attempt spends in this layer is not part of its timeout.
	Wrap func(http.RoundTripper) http.RoundTripper
	// AttemptTimeout ends an attempt, reading its answer included. Zero means
	// DefaultAttemptTimeout. The whole call ends with its context.
	AttemptTimeout time.Duration
	// RetryWaitMin and RetryWaitMax bound the random wait before the one
	// retry. Zero means DefaultRetryWaitMin and DefaultRetryWaitMax.
	RetryWaitMin, RetryWaitMax time.Duration
	// UserAgent is sent with each call, "" means DefaultUserAgent.
	UserAgent string
	// Clock is the wall clock that the vault's is compared with. Nil means
	// the machine's.
	Clock clock.Clock
}

// Client calls the vault. It is safe for concurrent use. Make one with [New].
type Client struct {
	options Options // without the API key
	base    *url.URL
	http    *http.Client
	// apiKey is a function because package fmt prints unexported fields as
	// they are, past the methods that redact them.
	apiKey func() secret.Text
}

// New returns a client of the vault. It sends nothing yet. Its errors say which
// option can't be used and why.
func New(options Options) (*Client, error) {
	base, err := parseBaseURL(options.BaseURL)
	if err != nil {
		return nil, err
	}
	if options, err = options.withDefaults(); err != nil {
		return nil, err
	}
	if options.Transport == nil {
		if options.Transport, err = NewTransport(options.CAFile); err != nil {
			return nil, err
		}
	}
	var layer http.RoundTripper = &attemptTransport{base: options.Transport, timeout: options.AttemptTimeout}
	if options.Wrap != nil {
		if layer = options.Wrap(layer); layer == nil {
			return nil, errors.New("the wrapper of the vault's transport returned nil")
		}
	}
	key := options.APIKey
	options.APIKey = secret.Text{}
	return &Client{
		options: options,
		apiKey:  func() secret.Text { return key },
		base:    base,
		http: &http.Client{
			Transport: &bufferTransport{next: layer, base: options.Transport},
			// Not reached while bufferTransport hides where a redirect points.
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
	}, nil
}

// withDefaults fills in what was left out.
func (o Options) withDefaults() (Options, error) {
	for _, d := range []struct {
		value    *time.Duration
		standard time.Duration
		name     string
	}{
		{&o.AttemptTimeout, DefaultAttemptTimeout, "AttemptTimeout"},
		{&o.RetryWaitMin, DefaultRetryWaitMin, "RetryWaitMin"},
		{&o.RetryWaitMax, max(DefaultRetryWaitMax, o.RetryWaitMin), "RetryWaitMax"},
	} {
		if *d.value < 0 {
			return o, fmt.Errorf("%s must not be negative", d.name)
		}
		if *d.value == 0 {
			*d.value = d.standard
		}
	}
	if o.RetryWaitMin > o.RetryWaitMax {
		return o, fmt.Errorf("RetryWaitMin (%s) must not be above RetryWaitMax (%s)", o.RetryWaitMin, o.RetryWaitMax)
	}
	if o.Transport != nil && o.CAFile != "" {
		return o, errors.New("CAFile and Transport can't be combined: a transport has its own certificates")
	}
	if o.UserAgent == "" {
		o.UserAgent = DefaultUserAgent
	}
	if o.Clock == nil {
		o.Clock = clock.System{}
	}
	return o, nil
}

// BaseURL returns the address that the paths of the calls are added to.
func (c *Client) BaseURL() string { return c.base.String() }

// CloseIdleConnections closes connections that are kept for later calls.
func (c *Client) CloseIdleConnections() { c.http.CloseIdleConnections() }
