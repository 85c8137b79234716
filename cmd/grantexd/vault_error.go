package main

import (
	"errors"
	"fmt"
	"net/http"
	"strings"

	"github.com/grantexd/grantexd/upstream"
)

// The advice that several calls share.
const (
	adviseAddress = "check --upstream, the vault's address without /v1, and whatever stands between here and the vault"
	adviseNetwork = "check --upstream, the network, and HTTPS_PROXY if it is set; grantexd check says more"
	adviseTimeout = "try again, with a longer --timeout if the vault is slow; grantexd check says whether it can be reached"
)

// advised adds to an error what to do about it.
func advised(err error, advice string) error { return fmt.Errorf("%w: %s", err, advice) }

// explainDeveloperError says what to do about an error of a call that is signed
// with the developer's API key.
func explainDeveloperError(err error) error {
	var answer *upstream.Error
	if errors.Is(err, upstream.ErrNoToken) {
		return withExit(exitUsage, advised(err, "check --api-key-file or "+apiKeyEnv+": it must be one line"))
	}
	if !errors.As(err, &answer) || answer.Code == "" {
		return explainCallError(err)
	}
	switch answer.Status {
	case http.StatusUnauthorized:
		return advised(err, "check the API key and --upstream")
	case http.StatusNotFound:
		return advised(err, "check the id (grantexd vault list shows them) and --upstream")
	}
	return explainCallError(err)
}

// explainExchangeError says what to do about an error of an exchange for service.
func explainExchangeError(err error, service string) error {
	var answer *upstream.Error
	if errors.Is(err, upstream.ErrNoToken) {
		return withExit(exitUsage, advised(err, "check the file with the grant token"))
	}
	if !errors.As(err, &answer) || answer.Code == "" {
		return explainCallError(err)
	}
	switch {
	case answer.GrantRejected():
		return advised(err, "the grant expired or was revoked, or is another vault's; make a new one")
	case answer.Status == http.StatusUnauthorized:
		return advised(err, adviseAddress)
	case answer.Status == http.StatusForbidden:
		return advised(err, adviseScopes(service))
	case answer.Status == http.StatusNotFound:
		return advised(err, "store one for the grant's principal with grantexd vault store, or check the name: case counts")
	}
	return explainCallError(err)
}

// adviseScopes says which scopes would open service.
func adviseScopes(service string) string {
	return "a grant with one of the service's scopes is needed: " + strings.Join(upstream.ScopesFor(service), ", ")
}

// explainCallError says what to do about an error that any call can have.
func explainCallError(err error) error {
	var answer *upstream.Error
	var malformed *upstream.MalformedError
	switch {
	case err == nil:
		return nil
	case errors.As(err, &answer):
		return explainAnswer(err, answer)
	case errors.As(err, &malformed):
		return advised(err, adviseAddress)
	case errors.Is(err, upstream.ErrConnect):
		return advised(err, adviseNetwork)
	case errors.Is(err, upstream.ErrTimeout):
		return advised(err, adviseTimeout)
	}
	return err
}

func explainAnswer(err error, answer *upstream.Error) error {
	switch {
	case answer.Status == http.StatusTooManyRequests && answer.RetryAfter > 0:
		return advised(err, "try again in "+seconds(answer.RetryAfter.Seconds()))
	case answer.Status == http.StatusTooManyRequests:
		return advised(err, "try again in a minute")
	case answer.Status >= http.StatusInternalServerError && answer.RequestID != "":
		return advised(err, "that is a fault of the vault: try again later, or report it with its request id "+plain(answer.RequestID))
	case answer.Status >= http.StatusInternalServerError:
		return advised(err, "the vault, or a proxy before it, has a fault: try again later")
	case answer.Code == "":
		return advised(err, adviseAddress)
	}
	return err
}
