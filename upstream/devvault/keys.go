package devvault

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"math/big"
	"time"
)

// rsaBits is the size of the keys that the vault signs with.
const rsaBits = 2048

// signingKeys sign grant tokens and are published as the key set.
type signingKeys struct {
	month string // of their making, "2006-01": part of the key ids
	rsa   *rsa.PrivateKey
	// ed25519 signs nothing here. The vault publishes such a key beside the
	// RSA one, and readers of the set have to cope with it.
	ed25519 ed25519.PrivateKey
}

func newSigningKeys(own *rsa.PrivateKey, now time.Time) (signingKeys, error) {
	k := signingKeys{month: now.UTC().Format("2006-01"), rsa: own}
	var err error
	if k.rsa == nil {
		if k.rsa, err = rsa.GenerateKey(rand.Reader, rsaBits); err != nil {
			return signingKeys{}, fmt.Errorf("making a signing key: %w", err)
		}
	}
	if _, k.ed25519, err = ed25519.GenerateKey(rand.Reader); err != nil {
		return signingKeys{}, fmt.Errorf("making a signing key: %w", err)
	}
	return k, nil
}

// kid is the key id in the header of grant tokens.
func (k signingKeys) kid() string { return "grantex-" + k.month }

// keySet answers the call for the signing keys (RFC 7517). The order of the
// members is the vault's.
func (k signingKeys) keySet() answer {
	type rsaKey struct {
		Kty string `json:"kty"`
		N   string `json:"n"`
		E   string `json:"e"`
		Alg string `json:"alg"`
		Use string `json:"use"`
		Kid string `json:"kid"`
	}
	type edKey struct {
		Crv string `json:"crv"`
		X   string `json:"x"`
		Kty string `json:"kty"`
		Alg string `json:"alg"`
		Use string `json:"use"`
		Kid string `json:"kid"`
	}
	b64 := base64.RawURLEncoding.EncodeToString
	public := k.ed25519.Public().(ed25519.PublicKey)
	return jsonAnswer(200, map[string]any{"keys": []any{
		rsaKey{
			Kty: "RSA", N: b64(k.rsa.N.Bytes()), E: b64(big.NewInt(int64(k.rsa.E)).Bytes()),
			Alg: "RS256", Use: "sig", Kid: k.kid(),
		},
		edKey{
			Crv: "Ed25519", X: b64(public), Kty: "OKP",
			Alg: "EdDSA", Use: "sig", Kid: "grantex-ed25519-" + k.month,
		},
	}})
}

// storedKeys is how signing keys are kept in a data file.
type storedKeys struct {
	Month   string `json:"month"`
	RSA     []byte `json:"rsa"`     // PKCS #8
	Ed25519 []byte `json:"ed25519"` // seed
}

func (k signingKeys) encode() ([]byte, error) {
	der, err := x509.MarshalPKCS8PrivateKey(k.rsa)
	if err != nil {
		return nil, fmt.Errorf("encoding the signing key: %w", err)
	}
	return json.Marshal(storedKeys{Month: k.month, RSA: der, Ed25519: k.ed25519.Seed()})
}

func decodeSigningKeys(b []byte) (signingKeys, error) {
	var stored storedKeys
	if err := json.Unmarshal(b, &stored); err != nil {
		return signingKeys{}, fmt.Errorf("decoding the signing keys: %w", err)
	}
	key, err := x509.ParsePKCS8PrivateKey(stored.RSA)
	if err != nil {
		return signingKeys{}, fmt.Errorf("decoding the signing key: %w", err)
	}
	private, ok := key.(*rsa.PrivateKey)
	if !ok || len(stored.Ed25519) != ed25519.SeedSize {
		return signingKeys{}, errors.New("decoding the signing keys: not the kinds of key expected")
	}
	return signingKeys{
		month: stored.Month, rsa: private, ed25519: ed25519.NewKeyFromSeed(stored.Ed25519),
	}, nil
}
