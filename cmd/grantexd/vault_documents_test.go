package main

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/grantexd/grantexd/upstream"
	"github.com/grantexd/grantexd/upstream/devvault"
	"github.com/grantexd/grantexd/upstream/secret"
)

// documentTest is one way to call one vault.
type documentTest struct {
	*testing.T
	side
	vault *recordedVault
}

// full are all parameters of a store.
func full() upstream.StoreParams {
	return upstream.StoreParams{
		PrincipalID: "user_7", Service: "github", AccessToken: secret.New("canary_access"), CredentialType: "api_key",
		RefreshToken: secret.New("canary_refresh"), TokenExpiresAt: time.Date(2126, 4, 6, 12, 0, 0, 250e6, time.UTC),
		Metadata: json.RawMessage(`{"scopes":["repo","read:org"]}`),
	}
}

// least are the required parameters of a store.
func least() upstream.StoreParams {
	p := full()
	return upstream.StoreParams{PrincipalID: p.PrincipalID, Service: p.Service, AccessToken: p.AccessToken}
}

func (d documentTest) stores(p upstream.StoreParams) *upstream.StoreResult {
	d.Helper()
	r, err := d.store(p)
	require.NoError(d, err)
	return r
}

// requiresStore checks that a store without a parameter is refused unsent.
func (d documentTest) requiresStore(without func(*upstream.StoreParams)) {
	d.Helper()
	p := full()
	without(&p)
	_, err := d.store(p)
	require.Error(d, err)
	require.Zero(d, d.vault.count())
}

// sent is a member of the last body.
func (d documentTest) sent(name string) string {
	d.Helper()
	return string(d.vault.last(d.T).body[name])
}

// leavesOut checks that a member is not sent unless it was given.
func (d documentTest) leavesOut(name string) {
	d.Helper()
	d.stores(least())
	require.NotContains(d, d.vault.last(d.T).body, name)
}

func (d documentTest) exchanged() *upstream.Credential {
	d.Helper()
	d.stores(full())
	c, err := d.exchange(d.vault.grant(d.T, devvault.MintParams{}), "github")
	require.NoError(d, err)
	return c
}

func (d documentTest) got() *upstream.StoredCredential {
	d.Helper()
	c, err := d.get(d.stores(full()).ID)
	require.NoError(d, err)
	return c
}

// raw sends an exchange as it stands and returns status and code.
func (d documentTest) raw(token, body string) (int, string) {
	d.Helper()
	r, err := http.NewRequest("POST", d.vault.url+"/v1/vault/credentials/exchange", strings.NewReader(body))
	require.NoError(d, err)
	r.Header.Set("Content-Type", "application/json")
	if token != "" {
		r.Header.Set("Authorization", "Bearer "+token)
	}
	resp, err := http.DefaultClient.Do(r)
	require.NoError(d, err)
	defer resp.Body.Close()
	var answer struct{ Code string }
	require.NoError(d, json.NewDecoder(resp.Body).Decode(&answer))
	return resp.StatusCode, answer.Code
}

// now is close to the vault's clock.
func (d documentTest) now(t time.Time) {
	d.Helper()
	require.WithinDuration(d, time.Now(), t, time.Minute)
	require.Equal(d, time.UTC, t.Location())
}

// documents are the rows of the tables in the vault's documentation, each with
// what it promises.
var documents = []struct {
	table, row string
	check      func(documentTest)
}{
	{"StoreCredentialParams", "principal_id", func(d documentTest) {
		d.requiresStore(func(p *upstream.StoreParams) { p.PrincipalID = "" })
		d.stores(full())
		require.Equal(d, `"user_7"`, d.sent("principalId"))
	}},
	{"StoreCredentialParams", "service", func(d documentTest) {
		d.requiresStore(func(p *upstream.StoreParams) { p.Service = "" })
		d.stores(full())
		require.Equal(d, `"github"`, d.sent("service"))
	}},
	{"StoreCredentialParams", "access_token", func(d documentTest) {
		d.requiresStore(func(p *upstream.StoreParams) { p.AccessToken = secret.Text{} })
		d.stores(full())
		require.Equal(d, `"canary_access"`, d.sent("accessToken"))
	}},
	{"StoreCredentialParams", "credential_type", func(d documentTest) {
		d.leavesOut("credentialType")
		d.stores(full())
		require.Equal(d, `"api_key"`, d.sent("credentialType"))
	}},
	{"StoreCredentialParams", "refresh_token", func(d documentTest) {
		d.leavesOut("refreshToken")
		d.stores(full())
		require.Equal(d, `"canary_refresh"`, d.sent("refreshToken"))
	}},
	{"StoreCredentialParams", "token_expires_at", func(d documentTest) {
		d.leavesOut("tokenExpiresAt")
		d.stores(full())
		require.Equal(d, `"2126-04-06T12:00:00.250Z"`, d.sent("tokenExpiresAt"))
	}},
	{"StoreCredentialParams", "metadata", func(d documentTest) {
		d.leavesOut("metadata")
		d.stores(full())
		require.JSONEq(d, `{"scopes":["repo","read:org"]}`, d.sent("metadata"))
	}},
	{"Store", "upserts on principal and service", func(d documentTest) {
		first := d.stores(full())
		require.Equal(d, first.ID, d.stores(full()).ID)
		other := full()
		other.PrincipalID = "user_8"
		require.NotEqual(d, first.ID, d.stores(other).ID)
	}},
	{"Store", "is signed with the API key", func(d documentTest) {
		d.stores(full())
		require.Equal(d, "Bearer "+d.vault.APIKey().Reveal(), d.vault.last(d.T).header.Get("Authorization"))
	}},
	{"StoreCredentialResponse", "id", func(d documentTest) {
		stored := d.stores(full())
		list, err := d.list(upstream.ListParams{})
		require.NoError(d, err)
		require.Len(d, list, 1)
		require.Equal(d, list[0].ID, stored.ID)
	}},
	{"StoreCredentialResponse", "principal_id", func(d documentTest) {
		require.Equal(d, "user_7", d.stores(full()).PrincipalID)
	}},
	{"StoreCredentialResponse", "service", func(d documentTest) {
		require.Equal(d, "github", d.stores(full()).Service)
	}},
	{"StoreCredentialResponse", "credential_type", func(d documentTest) {
		require.Equal(d, "api_key", d.stores(full()).CredentialType)
		require.Equal(d, "oauth2", d.stores(least()).CredentialType)
	}},
	{"StoreCredentialResponse", "created_at", func(d documentTest) { d.now(d.stores(full()).CreatedAt) }},

	{"ListVaultCredentialsParams", "principal_id", func(d documentTest) {
		d.stores(full())
		other := full()
		other.PrincipalID = "user 8&x"
		d.stores(other)
		list, err := d.list(upstream.ListParams{PrincipalID: "user 8&x"})
		require.NoError(d, err)
		require.Len(d, list, 1)
		require.Equal(d, "user 8&x", list[0].PrincipalID)
		_, err = d.list(upstream.ListParams{})
		require.NoError(d, err)
		require.Empty(d, d.vault.last(d.T).query)
	}},
	{"ListVaultCredentialsParams", "service", func(d documentTest) {
		d.stores(full())
		other := full()
		other.Service = "slack"
		d.stores(other)
		list, err := d.list(upstream.ListParams{Service: "slack"})
		require.NoError(d, err)
		require.Len(d, list, 1)
		require.Equal(d, "slack", list[0].Service)
	}},
	{"ListVaultCredentialsResponse", "credentials", func(d documentTest) {
		list, err := d.list(upstream.ListParams{})
		require.NoError(d, err)
		require.Empty(d, list)
		credential := d.got()
		list, err = d.list(upstream.ListParams{})
		require.NoError(d, err)
		require.Equal(d, []upstream.StoredCredential{*credential}, list)
	}},

	{"Get", "credential_id", func(d documentTest) {
		_, err := d.get("")
		require.Error(d, err)
		require.Zero(d, d.vault.count())
		_, err = d.get("vault_none")
		require.Equal(d, exitNotFound, exitCodeOf(err))
		require.NotEmpty(d, d.got().ID)
	}},
	{"VaultCredential", "id", func(d documentTest) {
		id := d.stores(full()).ID
		c, err := d.get(id)
		require.NoError(d, err)
		require.Equal(d, id, c.ID)
	}},
	{"VaultCredential", "principal_id", func(d documentTest) { require.Equal(d, "user_7", d.got().PrincipalID) }},
	{"VaultCredential", "service", func(d documentTest) { require.Equal(d, "github", d.got().Service) }},
	{"VaultCredential", "credential_type", func(d documentTest) { require.Equal(d, "api_key", d.got().CredentialType) }},
	{"VaultCredential", "token_expires_at", func(d documentTest) {
		require.Equal(d, full().TokenExpiresAt, d.got().TokenExpiresAt)
		c, err := d.get(d.stores(least()).ID)
		require.NoError(d, err)
		require.Zero(d, c.TokenExpiresAt)
	}},
	{"VaultCredential", "metadata", func(d documentTest) {
		require.JSONEq(d, `{"scopes":["repo","read:org"]}`, string(d.got().Metadata))
		c, err := d.get(d.stores(least()).ID)
		require.NoError(d, err)
		require.JSONEq(d, `{}`, string(c.Metadata))
	}},
	{"VaultCredential", "created_at", func(d documentTest) { d.now(d.got().CreatedAt) }},
	{"VaultCredential", "updated_at", func(d documentTest) { d.now(d.got().UpdatedAt) }},

	{"Delete", "credential_id", func(d documentTest) {
		require.Error(d, d.remove(""))
		require.Zero(d, d.vault.count())
		id := d.stores(full()).ID
		require.NoError(d, d.remove(id))
		require.Equal(d, "DELETE", d.vault.last(d.T).method)
		_, err := d.get(id)
		require.Equal(d, exitNotFound, exitCodeOf(err))
		require.Equal(d, exitNotFound, exitCodeOf(d.remove(id)))
	}},

	{"Exchange", "grant_token", func(d documentTest) {
		_, err := d.exchange(secret.Text{}, "github")
		require.Error(d, err)
		require.Zero(d, d.vault.count())
		require.NotZero(d, d.exchanged())
	}},
	{"Exchange", "service", func(d documentTest) {
		_, err := d.exchange(d.vault.grant(d.T, devvault.MintParams{}), "")
		require.Equal(d, exitUsage, exitCodeOf(err))
		require.Zero(d, d.vault.count())
		d.exchanged()
		require.Equal(d, `"github"`, d.sent("service"))
	}},
	{"Exchange headers", "Authorization", func(d documentTest) {
		d.stores(full())
		grant := d.vault.grant(d.T, devvault.MintParams{})
		_, err := d.exchange(grant, "github")
		require.NoError(d, err)
		require.Equal(d, []string{"Bearer " + grant.Reveal()}, d.vault.last(d.T).header["Authorization"])
	}},
	{"Exchange headers", "Content-Type", func(d documentTest) {
		d.exchanged()
		require.Equal(d, []string{"application/json"}, d.vault.last(d.T).header["Content-Type"])
		require.Equal(d, "/v1/vault/credentials/exchange", d.vault.last(d.T).path)
	}},
	{"ExchangeCredentialResponse", "access_token", func(d documentTest) {
		require.Equal(d, "canary_access", d.exchanged().AccessToken.Reveal())
	}},
	{"ExchangeCredentialResponse", "service", func(d documentTest) { require.Equal(d, "github", d.exchanged().Service) }},
	{"ExchangeCredentialResponse", "credential_type", func(d documentTest) {
		require.Equal(d, "api_key", d.exchanged().CredentialType)
	}},
	{"ExchangeCredentialResponse", "token_expires_at", func(d documentTest) {
		require.Equal(d, full().TokenExpiresAt, d.exchanged().TokenExpiresAt)
		d.stores(least())
		c, err := d.exchange(d.vault.grant(d.T, devvault.MintParams{}), "github")
		require.NoError(d, err)
		require.Zero(d, c.TokenExpiresAt)
	}},
	{"ExchangeCredentialResponse", "metadata", func(d documentTest) {
		require.JSONEq(d, `{"scopes":["repo","read:org"]}`, string(d.exchanged().Metadata))
	}},

	{"Exchange errors", "400", func(d documentTest) {
		status, code := d.raw(d.vault.grant(d.T, devvault.MintParams{}).Reveal(), `{}`)
		require.Equal(d, 400, status)
		require.Equal(d, "BAD_REQUEST", code)
		for _, name := range []string{"", " ", "a b", "-a", strings.Repeat("x", 65)} {
			_, err := d.exchange(d.vault.grant(d.T, devvault.MintParams{}), name)
			require.Equal(d, exitUsage, exitCodeOf(err), "%q", name)
		}
		require.Equal(d, 1, d.vault.count(), "the client knows what the vault refuses")
	}},
	{"Exchange errors", "401", func(d documentTest) {
		status, code := d.raw("", `{"service":"github"}`)
		require.Equal(d, 401, status)
		require.Equal(d, "UNAUTHORIZED", code)
		d.stores(full())
		grant, claims, err := d.vault.Mint(devvault.MintParams{Principal: "user_7"})
		require.NoError(d, err)
		text := grant.Reveal()
		forged := secret.New(text[:len(text)-9] + swapped(text[len(text)-9]) + text[len(text)-8:])
		require.NoError(d, d.vault.Revoke(claims.GrantID))
		for name, token := range map[string]secret.Text{
			"forged": forged, "revoked": grant, "expired": d.vault.grant(d.T, devvault.MintParams{Life: -time.Hour}),
		} {
			_, err := d.exchange(token, "github")
			require.Equal(d, exitRefused, exitCodeOf(err), name)
		}
	}},
	{"Exchange errors", "404", func(d documentTest) {
		_, err := d.exchange(d.vault.grant(d.T, devvault.MintParams{}), "github")
		require.Equal(d, exitNotFound, exitCodeOf(err))
		d.stores(full())
		_, err = d.exchange(d.vault.grant(d.T, devvault.MintParams{Principal: "user_8"}), "github")
		require.Equal(d, exitNotFound, exitCodeOf(err), "sub says whose credential it is")
		_, err = d.exchange(d.vault.grant(d.T, devvault.MintParams{Developer: "dev_other"}), "github")
		require.Equal(d, exitNotFound, exitCodeOf(err), "dev says whose it is too")
	}},
	{"Exchange", "20 requests a minute", func(d documentTest) {
		d.stores(full())
		grant := d.vault.grant(d.T, devvault.MintParams{})
		for i := range 20 {
			_, err := d.exchange(grant, "github")
			require.NoError(d, err, "exchange %d", i+1)
		}
		_, err := d.exchange(grant, "github")
		require.Equal(d, exitLimited, exitCodeOf(err))
	}},
}

// swapped is another letter than c, with all bits of the base64 different.
func swapped(c byte) string {
	if c == 'A' {
		return "B"
	}
	return "A"
}

func TestEveryRowOfTheDocuments(t *testing.T) {
	for _, object := range []bool{false, true} {
		for _, through := range []string{"client", "command"} {
			for _, row := range documents {
				t.Run(fmt.Sprintf("%s, metadata as object %v/%s/%s", through, object, row.table, row.row), func(t *testing.T) {
					vault := newRecordedVault(t, devvault.Options{MetadataAsObject: object, NoDeveloperLimits: true})
					d := documentTest{T: t, vault: vault, side: newClientSide(t, vault)}
					if through == "command" {
						d.side = newCommandSide(t, vault)
					}
					row.check(d)
				})
			}
		}
	}
}
