package devvault

import (
	"crypto/rand"
	"encoding/binary"
	"encoding/hex"
	"time"
)

// crockford is the alphabet of ULIDs: no I, L, O and U, which are misread.
const crockford = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"

// newID returns an id as the vault makes them: a prefix that tells what it
// names, and a ULID, so that ids sort by the time they were made.
func newID(prefix string, now time.Time) string {
	var b [16]byte
	randomBytes(b[6:])
	// 48 bits of milliseconds, then 80 random ones.
	ms := uint64(now.UnixMilli())
	hi := ms<<16 | uint64(b[6])<<8 | uint64(b[7])
	lo := binary.BigEndian.Uint64(b[8:])
	var out [26]byte
	for i := len(out) - 1; i >= 0; i-- {
		out[i] = crockford[lo&31]
		lo = lo>>5 | hi<<59
		hi >>= 5
	}
	return prefix + string(out[:])
}

// newRequestID returns a random UUID (RFC 9562, version 4).
func newRequestID() string {
	var b [16]byte
	randomBytes(b[:])
	b[6] = b[6]&0x0f | 0x40
	b[8] = b[8]&0x3f | 0x80
	s := hex.EncodeToString(b[:])
	return s[:8] + "-" + s[8:12] + "-" + s[12:16] + "-" + s[16:20] + "-" + s[20:]
}

// randomBytes fills b. crypto/rand does not fail: it crashes the program where
// the system has no randomness.
func randomBytes(b []byte) { _, _ = rand.Read(b) }

// randomText returns n random characters of alphabet, which has at most 256.
func randomText(alphabet string, n int) string {
	out := make([]byte, 0, n)
	// Bytes beyond the last multiple of the alphabet's length are dropped, or
	// its first characters would come more often than the others.
	limit := 256 - 256%len(alphabet)
	for buf := make([]byte, n); len(out) < n; {
		randomBytes(buf)
		for _, c := range buf {
			if int(c) < limit && len(out) < n {
				out = append(out, alphabet[int(c)%len(alphabet)])
			}
		}
	}
	return string(out)
}
