package wire

import "time"

// Held describes a credential that is held, without its token.
type Held struct {
	Service        string     `json:"service"`
	CredentialType string     `json:"credentialType"`
	Fingerprint    string     `json:"fingerprint"`
	TokenExpiresAt *time.Time `json:"tokenExpiresAt"`
	// AgeSeconds is how long ago the vault last answered with it.
	AgeSeconds float64 `json:"ageSeconds"`
	// TTLSeconds is how long it counts as fresh, negative once it is stale.
	TTLSeconds float64 `json:"ttlSeconds"`
	// RotationStuck says that a refresh that was due brought the same token
	// with the same expiry: nobody stored a new one in the vault yet.
	RotationStuck bool `json:"rotationStuck"`
	// NextRefreshSeconds is in how long it will be refreshed if it is read
	// until then; null if no refresh is planned.
	NextRefreshSeconds *float64 `json:"nextRefreshSeconds"`
	// LastReadSeconds is how long ago it was last read; null if never.
	LastReadSeconds *float64 `json:"lastReadSeconds"`
}

// CredentialList is the body of GET /v1/credentials, sorted by service.
type CredentialList struct {
	Credentials []Held `json:"credentials"`
}

// StateDenied is the state of an [Explanation] for a caller that no access rule
// lets read the service.
const StateDenied = "denied"

// Explanation is the body of GET /v1/explain/{service}. For a caller that may not
// read the service it speaks of access and the budget alone, whether the service
// exists or not.
type Explanation struct {
	Service string `json:"service"`
	// Allowed says whether the asking caller may read it here.
	Allowed bool `json:"allowed"`
	// Rule names the access rule that decides, or says that there are none or
	// that none allows it.
	Rule string `json:"rule"`
	// State is one of held, stale, refused, expired, uncovered, failing, unknown,
	// withheld, or [StateDenied].
	State string `json:"state"`
	// Summary says all that matters in sentences that a person acts on.
	Summary []string `json:"summary"`
	// Held is set while a credential is held.
	Held *Held `json:"held,omitempty"`
	// LastError is the last failure of an exchange for this service, "" if
	// none is remembered.
	LastError string `json:"lastError,omitempty"`
	// RetrySeconds is when it is worth asking again, 0 for now.
	RetrySeconds float64 `json:"retrySeconds"`
	Budget       Budget  `json:"budget"`
}

// Status is the body of GET /v1/status.
type Status struct {
	Version       string   `json:"version"`
	UptimeSeconds float64  `json:"uptimeSeconds"`
	Ready         bool     `json:"ready"`
	Grant         Grant    `json:"grant"`
	Budget        Budget   `json:"budget"`
	Cache         Cache    `json:"cache"`
	Upstream      Upstream `json:"upstream"`
	// Warnings are sentences that a person should act on.
	Warnings []string `json:"warnings"`
}

// Grant is what is known of the grant token. The token itself is never in it.
type Grant struct {
	// State is usable, absent, withdrawn, expired, rejected or unconfirmed.
	State string `json:"state"`
	File  string `json:"file"`
	// Problem says what is wrong with the file and what to do, "" if nothing.
	Problem   string     `json:"problem,omitempty"`
	Principal string     `json:"principal,omitempty"`
	Developer string     `json:"developer,omitempty"`
	Agent     string     `json:"agent,omitempty"`
	GrantID   string     `json:"grantId,omitempty"`
	Scopes    []string   `json:"scopes,omitempty"`
	ExpiresAt *time.Time `json:"expiresAt,omitempty"`
	// RemainingSeconds is what is left of the token's life; null if it has no
	// expiry or there is no token.
	RemainingSeconds *float64 `json:"remainingSeconds,omitempty"`
	// ConfirmedSeconds is how long ago the vault last accepted the token; null
	// if it never did.
	ConfirmedSeconds *float64 `json:"confirmedSeconds,omitempty"`
	// NextProbeSeconds is in how long a rejected token is tried once more.
	NextProbeSeconds *float64 `json:"nextProbeSeconds,omitempty"`
}

// Budget is what is left of the departures to the vault.
type Budget struct {
	Limit         int     `json:"limit"`
	WindowSeconds float64 `json:"windowSeconds"`
	// Used is how many slots are taken now, Free how many an urgent departure
	// could take.
	Used int `json:"used"`
	Free int `json:"free"`
	// Waiting is how many departures wait for a slot.
	Waiting int `json:"waiting"`
	// NextSlotSeconds is in how long there is a slot, 0 if there is one now.
	NextSlotSeconds float64 `json:"nextSlotSeconds"`
	// BlockedSeconds is how long the vault asked to stay away, 0 if not.
	BlockedSeconds float64 `json:"blockedSeconds"`
	// Others says that somebody else spends of the same budget.
	Others bool `json:"others"`
	// Paced says why the ledger can't be used and departures are spread out
	// instead, "" if it can.
	Paced string `json:"paced,omitempty"`
}

// Cache counts what the broker holds.
type Cache struct {
	Held          int `json:"held"`
	Stale         int `json:"stale"`
	RotationStuck int `json:"rotationStuck"`
	Limit         int `json:"limit"`
}

// Upstream is how the vault does.
type Upstream struct {
	URL string `json:"url"`
	// State is ok, failing, limited or unknown.
	State     string `json:"state"`
	LastError string `json:"lastError,omitempty"`
	// FailingSeconds is how long it has been failing, 0 if it is not.
	FailingSeconds float64 `json:"failingSeconds"`
	// LastSuccessSeconds is how long ago it last answered; null if never.
	LastSuccessSeconds *float64 `json:"lastSuccessSeconds"`
	// ClockOffsetSeconds is by how much the vault's clock is ahead of this
	// host's; null if it is not known.
	ClockOffsetSeconds *float64 `json:"clockOffsetSeconds"`
	Exchanges          uint64   `json:"exchanges"`
}
