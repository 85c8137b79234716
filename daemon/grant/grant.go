// Package grant watches the file that holds the agent's grant token: which token
// is current, what it claims, and when it changes.
//
// It verifies no signature, since the vault does; it makes sure that a torn,
// empty or foreign file never replaces a good token.
package grant

import (
	"crypto/sha256"
	"time"

	"github.com/grantexd/grantexd/upstream/secret"
)

// State says what the grant file offers now.
type State int

// The states of a grant file.
const (
	// Absent means that there never was a usable token since the start. It is
	// the zero value.
	Absent State = iota
	// Usable means that Snapshot.Grant is to be used. The file itself may be
	// unreadable or broken at the moment (see Snapshot.Problem): the last good
	// token stays in use while it lives.
	Usable
	// Withdrawn means that the file is gone, or that in strict mode other users
	// can read the token by now: nothing may be served.
	Withdrawn
	// Expired means that the token's exp has passed.
	Expired
)

// String returns the state's name for logs and status.
func (s State) String() string {
	switch s {
	case Absent:
		return "absent"
	case Usable:
		return "usable"
	case Withdrawn:
		return "withdrawn"
	case Expired:
		return "expired"
	}
	return "unknown"
}

// Claims are what a grant token says of itself. They are not verified.
type Claims struct {
	// Issuer, Subject (the principal), Developer and Agent are the claims
	// iss, sub, dev and agt.
	Issuer, Subject, Developer, Agent string
	// GrantID is the claim grnt: the consent that the token stands for.
	GrantID string
	// TokenID is the claim jti.
	TokenID string
	// Scopes is the claim scp.
	Scopes []string
	// ScopesKnown says that scp was an array of strings. If it is false, what
	// the token covers can only be found out by asking the vault.
	ScopesKnown bool
	// IssuedAt and ExpiresAt are iat and exp, zero if they are missing.
	IssuedAt, ExpiresAt time.Time
}

// Consent identifies what a person agreed to. Two tokens with the same consent
// open the same credentials, but for their scopes.
type Consent struct{ GrantID, Subject, Developer string }

// Consent returns the consent that the claims stand for.
func (c Claims) Consent() Consent {
	return Consent{GrantID: c.GrantID, Subject: c.Subject, Developer: c.Developer}
}

// Same reports whether c and o are one consent for certain. A token that doesn't
// name its grant shares its consent with no other.
func (c Consent) Same(o Consent) bool { return c == o && c.GrantID != "" }

// Grant is a well-formed grant token.
type Grant struct {
	// Token is the JWT.
	Token secret.Text
	// Claims is what it says.
	Claims Claims
	// Hash is the SHA-256 of the JWT, by which a rejected token is remembered.
	Hash [sha256.Size]byte
}

// LastGoodStays is what Snapshot.Problem adds, in parentheses, for a file that
// does not replace the token in use. It doesn't hold of a token that the vault
// rejected, which is not known here.
const LastGoodStays = "the last good token stays in use while it lives"

// Snapshot is the state of the grant file at one moment. It is immutable.
type Snapshot struct {
	// State says whether Grant may be used.
	State State
	// Grant is the token, nil unless State is Usable or Expired.
	Grant *Grant
	// Problem says in words what is wrong with the file at the moment and what
	// to do, "" if nothing is. It never quotes the file's content.
	Problem string
	// LoadedAt is the wall clock's time at which Grant was read.
	LoadedAt time.Time
}
