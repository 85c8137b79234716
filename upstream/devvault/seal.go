package devvault

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"errors"
)

// errUnsealed says that a record is not what was sealed under this key, for this
// place and version.
var errUnsealed = errors.New("a record can't be decrypted")

// sealer encrypts records with AES-256-GCM. A sealed record is its version (8
// bytes, big endian), a random nonce (12) and the ciphertext with its tag. The
// record's name and version are authenticated with it, so that no record can
// stand in another one's place.
type sealer struct {
	aead cipher.AEAD
	// id tells keys apart without telling the key.
	id []byte
}

const versionBytes = 8

func newSealer(key [keyBytes]byte) sealer {
	block, err := aes.NewCipher(key[:])
	if err != nil {
		panic("devvault: " + err.Error()) // only for a wrong size, which the type rules out
	}
	aead, err := cipher.NewGCM(block)
	if err != nil {
		panic("devvault: " + err.Error()) // only for a block size that is not AES's
	}
	mac := hmac.New(sha256.New, key[:])
	mac.Write([]byte("grantexd devvault key id"))
	return sealer{aead: aead, id: mac.Sum(nil)[:8]}
}

func (s sealer) seal(name string, version uint64, plain []byte) []byte {
	out := make([]byte, versionBytes+s.aead.NonceSize(), versionBytes+s.aead.NonceSize()+len(plain)+s.aead.Overhead())
	binary.BigEndian.PutUint64(out, version)
	nonce := out[versionBytes:]
	randomBytes(nonce)
	return s.aead.Seal(out, nonce, plain, additionalData(name, version))
}

func (s sealer) open(name string, sealed []byte) (plain []byte, err error) {
	head := versionBytes + s.aead.NonceSize()
	if len(sealed) < head {
		return nil, errUnsealed
	}
	plain, err = s.aead.Open(nil, sealed[versionBytes:head], sealed[head:], additionalData(name, versionOf(sealed)))
	if err != nil {
		return nil, errUnsealed
	}
	return plain, nil
}

// versionOf returns the version of a sealed record, zero if there is none.
func versionOf(sealed []byte) uint64 {
	if len(sealed) < versionBytes {
		return 0
	}
	return binary.BigEndian.Uint64(sealed)
}

// additionalData needs no separator: the version has a fixed length.
func additionalData(name string, version uint64) []byte {
	return append(binary.BigEndian.AppendUint64(nil, version), name...)
}
