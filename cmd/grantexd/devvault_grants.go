package main

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
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/grantexd/grantexd/upstream/devvault"
)

// mintRequest is the body of the admin API's POST /grants.
type mintRequest struct {
	Scopes      []string `json:"scopes,omitempty"`
	Life        string   `json:"life,omitempty"`
	PrincipalID string   `json:"principalId,omitempty"`
	AgentID     string   `json:"agentId,omitempty"`
	GrantID     string   `json:"grantId,omitempty"`
}

func (a *app) mintCommand() *cobra.Command {
	var m mintRequest
	var admin, out, refresh string
	var life time.Duration
	cmd := &cobra.Command{
		Use:   "mint",
		Short: "Make a grant token",
		Long: "mint makes a grant in a running devvault, or another token of one, and prints the answer,\n" +
			"which can be used as a grant file as it is. With --out it replaces that file in one step.",
		Example: "  grantexd devvault mint --scope github:read --life 1h --out ./grant",
		Args:    noArgs,
	}
	adminFlag(cmd, &admin)
	flags := cmd.Flags()
	flags.StringSliceVar(&m.Scopes, "scope", nil, "a `SCOPE` of the grant (repeatable; default vault:credentials:exchange, which opens everything)")
	flags.DurationVar(&life, "life", devvault.DefaultLife, "how long it lives, a `DURATION`; a negative one makes an expired token")
	flags.StringVar(&m.PrincipalID, "principal-id", devvault.DefaultPrincipal, "the `ID` of whose credentials it opens")
	flags.StringVar(&m.AgentID, "agent-id", "", "the agent's `DID` (default: a new one)")
	flags.StringVar(&m.GrantID, "grant-id", "", "the grant's `ID` (default: a new one)")
	flags.StringVar(&refresh, "refresh", "", "make another token of the grant with this `ID` instead")
	flags.StringVar(&out, "out", "", "write the answer to this `FILE`, 0600, and print only the grant's id")
	for _, name := range []string{"scope", "life", "principal-id", "agent-id", "grant-id"} {
		cmd.MarkFlagsMutuallyExclusive("refresh", name)
	}
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		m.Life = life.String()
		path, body := "/grants", any(m)
		if refresh != "" {
			path, body = "/grants/"+url.PathEscape(refresh)+"/refresh", nil
		}
		answer, err := askAdmin(cmd.Context(), admin, http.MethodPost, path, body)
		if err != nil {
			return err
		}
		if out == "" {
			_, err = a.out.Write(answer)
			return err
		}
		return a.saveGrant(out, answer)
	}
	return cmd
}

// saveGrant writes a grant file and prints the grant's id.
func (a *app) saveGrant(path string, answer []byte) error {
	var made struct {
		GrantID string `json:"grantId"`
	}
	if err := json.Unmarshal(answer, &made); err != nil {
		return errors.New("devvault: the answer is not that of a devvault: check --admin")
	}
	if err := replaceSecret(path, answer); err != nil {
		return fmt.Errorf("--out: %w", err)
	}
	_, err := fmt.Fprintln(a.out, made.GrantID)
	return err
}

func (a *app) revokeCommand() *cobra.Command {
	var admin string
	cmd := &cobra.Command{
		Use:     "revoke GRANT",
		Short:   "Revoke a grant",
		Long:    "revoke ends a grant of a running devvault with all its tokens, for good. GRANT is the id that\nmint prints, or the claim grnt of a token.",
		Example: "  grantexd devvault revoke \"$(grantexd devvault mint --out ./grant)\"",
		Args:    oneArg("the id of a grant"),
	}
	adminFlag(cmd, &admin)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		_, err := askAdmin(cmd.Context(), admin, http.MethodDelete, "/grants/"+url.PathEscape(args[0]), nil)
		return err
	}
	return cmd
}

func adminFlag(cmd *cobra.Command, admin *string) {
	cmd.Flags().StringVar(admin, "admin", defaultAdminAddress, "the `ADDR` of the devvault's admin API")
}

// adminTimeout bounds a call of the admin API, which works in memory.
const adminTimeout = 10 * time.Second

// askAdmin makes a call of a devvault's admin API and returns its answer.
func askAdmin(ctx context.Context, address, method, path string, body any) ([]byte, error) {
	address = strings.TrimSuffix(strings.TrimPrefix(address, "http://"), "/")
	if _, _, err := net.SplitHostPort(address); err != nil {
		return nil, usagef("--admin must be host:port, such as %s", defaultAdminAddress)
	}
	ctx, cancel := context.WithTimeout(ctx, adminTimeout)
	defer cancel()
	var content io.Reader
	if body != nil {
		encoded, err := json.Marshal(body)
		if err != nil {
			return nil, err
		}
		content = bytes.NewReader(encoded)
	}
	request, err := http.NewRequestWithContext(ctx, method, "http://"+address+path, content)
	if err != nil {
		return nil, usagef("--admin must be host:port, such as %s", defaultAdminAddress)
	}
	request.Header.Set("Content-Type", "application/json")
	// No proxy: the admin API is on this machine, and its answers are tokens.
	response, err := (&http.Client{Transport: &http.Transport{DisableKeepAlives: true}}).Do(request)
	if err != nil {
		return nil, withExit(exitUnreachable, fmt.Errorf("devvault: no admin API answers on %s: %w: start grantexd devvault, or set --admin",
			address, reason(err)))
	}
	defer func() { _ = response.Body.Close() }()
	answer, err := io.ReadAll(io.LimitReader(response.Body, 1<<20))
	if err != nil {
		return nil, fmt.Errorf("devvault: reading the answer: %w", err)
	}
	if response.StatusCode < 300 {
		return answer, nil
	}
	var refused struct {
		Message string `json:"message"`
	}
	if json.Unmarshal(answer, &refused) != nil || refused.Message == "" {
		refused.Message = "something else than a devvault answers at --admin"
	}
	return nil, withExit(vaultExit(response.StatusCode), fmt.Errorf("devvault: %s", plain(refused.Message)))
}
