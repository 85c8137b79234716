package upstream

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"

	"github.com/hashicorp/go-retryablehttp"

	"github.com/grantexd/grantexd/upstream/secret"
)

// ErrNoToken means that a call was not made because it has no token that could
// be sent: the grant token or the API key is missing, or holds characters that
// no token has.
var ErrNoToken = errors.New("no token to send")

// call is a call of the vault before it is made.
type call struct {
	method, path string
	// id is appended to path, "" for none.
	id    string
	query url.Values
	// token signs the call; tokenName says in words what it is, "" for a call
	// that is not signed.
	token     secret.Text
	tokenName string
	// once says that the call is not to be repeated.
	once bool
	// body is sent as JSON, nil for none: the vault refuses a JSON content type
	// with nothing behind it.
	body any
	// secrets are those in body.
	secrets []secret.Text
	// want are the statuses that mean success.
	want []int
}

// do makes the call, and once again where that helps. The number of attempts
// tells whether the answer may be to a repetition.
func (c *Client) do(ctx context.Context, call call) (a *answer, attempts int, err error) {
	req, err := c.request(ctx, call)
	if err != nil {
		return nil, 0, err
	}
	address := withoutQuery(req.URL)
	secrets := append([]secret.Text{call.token}, call.secrets...)
	explain := func(resp *http.Response) error {
		return c.errorOf(newAnswer(resp, address), secrets)
	}
	r := &retries{explain: explain}
	client := r.client(c.http, c.options)
	if call.once {
		client.RetryMax = 0
	}
	resp, err := client.Do(req)
	if err != nil {
		return nil, r.made, cause(ctx, err, r.reason)
	}
	a = newAnswer(resp, address)
	if slices.Contains(call.want, a.status) {
		return a, r.made, nil
	}
	return nil, r.made, c.errorOf(a, secrets)
}

// request builds the request.
func (c *Client) request(ctx context.Context, call call) (*retryablehttp.Request, error) {
	if call.tokenName != "" && !sendable(call.token) {
		return nil, fmt.Errorf("%w: the %s is missing or malformed", ErrNoToken, call.tokenName)
	}
	var body any // stays an untyped nil without a body
	if call.body != nil {
		encoded, err := json.Marshal(call.body)
		if err != nil {
			return nil, errors.New("the call's body can't be encoded as JSON")
		}
		body = encoded
	}
	u := endpoint(c.base, call.path, call.id)
	u.RawQuery = call.query.Encode()
	req, err := retryablehttp.NewRequestWithContext(ctx, call.method, u.String(), body)
	if err != nil {
		return nil, errors.New("the call's address can't be built")
	}
	if call.tokenName != "" {
		authorize(req.Header, call.token)
	}
	req.Header.Set("Accept", "application/json")
	req.Header.Set("User-Agent", c.options.UserAgent)
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	return req, nil
}

// cause is what the caller gets for a call that ended without an answer. If a
// retry found no slot, reason says why there was to be one at all.
func cause(ctx context.Context, err, reason error) error {
	var noSlot *NoSlotError
	var failed *failure
	switch {
	case errors.As(err, &noSlot) && reason != nil:
		return reason
	case errors.As(err, &noSlot):
		return noSlot
	case ctx.Err() != nil:
		return contextFailure(ctx.Err())
	case errors.As(err, &failed):
		return failed
	}
	var outer *url.Error // quotes the address with its query
	if errors.As(err, &outer) {
		err = outer.Err
	}
	return fmt.Errorf("calling the vault: %w", err)
}

// withoutQuery returns the address for errors: a query names a principal.
func withoutQuery(u *url.URL) string {
	plain := *u
	plain.RawQuery = ""
	return plain.String()
}
