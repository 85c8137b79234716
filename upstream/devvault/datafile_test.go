package devvault

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	bolt "go.etcd.io/bbolt"
	"golang.org/x/sys/unix"

	"github.com/grantexd/grantexd/upstream/secret"
)

// onDisk are options with a data file in a new directory.
func onDisk(t *testing.T) Options {
	return Options{DataFile: filepath.Join(t.TempDir(), "vault.db"), SigningKey: sharedKey(), RateLimit: -1}
}

// open makes a vault that is closed at the test's end or before.
func open(t *testing.T, o Options) *Server {
	t.Helper()
	s, err := New(o)
	require.NoError(t, err)
	t.Cleanup(func() { _ = s.Close() })
	return s
}

// filled makes a data file with n credentials and returns a token for them.
func filled(t *testing.T, o Options, n int) (token string) {
	t.Helper()
	s := open(t, o)
	for i := range n {
		_, err := s.Store(CredentialParams{
			Service: fmt.Sprintf("service-%d", i), AccessToken: secret.New(fmt.Sprintf("made-up-%d", i)),
		})
		require.NoError(t, err)
	}
	token = mint(t, s, MintParams{})
	require.NoError(t, s.Close())
	return token
}

func TestEverythingSurvivesARestart(t *testing.T) {
	o := onDisk(t)
	s := open(t, o)
	expires := time.Now().Add(time.Hour)
	id, err := s.Store(CredentialParams{
		Service: "github", AccessToken: secret.New("gho_made-up"), RefreshToken: secret.New("ghr_made-up"),
		Type: "pat", ExpiresAt: expires, Metadata: json.RawMessage(`{"login":"octocat"}`),
	})
	require.NoError(t, err)
	gone, err := s.Store(CredentialParams{Service: "gone", AccessToken: secret.New("x")})
	require.NoError(t, err)
	require.Equal(t, 204, ask(s.Handler(), "DELETE", pathCredentials+"/"+gone, s.APIKey().Reveal(), "").status)
	token := mint(t, s, MintParams{})
	revoked, claims, err := s.Mint(MintParams{})
	require.NoError(t, err)
	require.NoError(t, s.Revoke(claims.GrantID))
	before := askFor(s, token, "github").body
	grants, key, keys := s.Grants(), s.APIKey(), ask(s.Handler(), "GET", pathKeySet, "", "").body
	require.NoError(t, s.Close())
	require.NoError(t, s.Close(), "twice is fine")

	o.SigningKey = nil // what is in the file goes first
	again := open(t, o)
	require.Equal(t, before, askFor(again, token, "github").body)
	require.Equal(t, 401, askFor(again, revoked.Reveal(), "github").status)
	require.Equal(t, 404, askFor(again, token, "gone").status)
	require.Equal(t, grants, again.Grants())
	require.Equal(t, key, again.APIKey())
	require.Equal(t, keys, ask(again.Handler(), "GET", pathKeySet, "", "").body)
	kept, ok := again.records.get(DefaultDeveloper, id)
	require.True(t, ok)
	require.Equal(t, "ghr_made-up", kept.RefreshToken.Reveal())

	same, err := again.Store(CredentialParams{Service: "github", AccessToken: secret.New("newer")})
	require.NoError(t, err)
	require.Equal(t, id, same)
	newest, err := again.Store(CredentialParams{Service: "slack", AccessToken: secret.New("x")})
	require.NoError(t, err)
	list := again.records.list(DefaultDeveloper, func(credential) bool { return true })
	require.Equal(t, []string{newest, id}, []string{list[0].id, list[1].id}, "the order goes on")
}

func TestAnAPIKeyThatIsGivenIsNotKept(t *testing.T) {
	o := onDisk(t)
	o.APIKey = secret.New(testAPIKey)
	filled(t, o, 1)
	o.APIKey = secret.Text{}
	require.NotEqual(t, testAPIKey, open(t, o).APIKey().Reveal())
}

// TestNothingIsReadableInTheFile looks for everything secret in all files, also
// in the pages that bbolt no longer uses.
func TestNothingIsReadableInTheFile(t *testing.T) {
	o := onDisk(t)
	s := open(t, o)
	canaries := []string{s.APIKey().Reveal(), "user_dev", "canary-metadata", "service-1", s.keys.rsa.D.String()}
	for i := range 50 {
		for _, kind := range []string{"access", "refresh"} {
			canaries = append(canaries, fmt.Sprintf("canary-%s-%d-", kind, i))
		}
		_, err := s.Store(CredentialParams{
			Service:     fmt.Sprintf("service-%d", i%20), // some are replaced
			AccessToken: secret.New(fmt.Sprintf("canary-access-%d-", i)), RefreshToken: secret.New(fmt.Sprintf("canary-refresh-%d-", i)),
			Metadata: json.RawMessage(`"canary-metadata"`),
		})
		require.NoError(t, err)
	}
	canaries = append(canaries, mint(t, s, MintParams{}))
	require.NoError(t, s.Close())

	files, err := filepath.Glob(filepath.Dir(o.DataFile) + "/*")
	require.NoError(t, err)
	require.Len(t, files, 2, "the data and its key, and nothing that was left over")
	for _, f := range files {
		info, err := os.Stat(f)
		require.NoError(t, err)
		require.Equal(t, fs.FileMode(0o600), info.Mode(), f)
		content, err := os.ReadFile(f)
		require.NoError(t, err)
		for _, canary := range canaries {
			require.NotContains(t, string(content), canary, f)
		}
	}
}

// TestSameRecordsLookDifferent: nonces are random, so equal tokens can't be told.
func TestSameRecordsLookDifferent(t *testing.T) {
	s := newSealer([keyBytes]byte{1})
	one, two := s.seal("n", 1, []byte("same")), s.seal("n", 1, []byte("same"))
	require.NotEqual(t, one, two)
	require.NotEqual(t, one[versionBytes:versionBytes+12], two[versionBytes:versionBytes+12])
}

func TestSealIsBoundToItsPlace(t *testing.T) {
	s := newSealer([keyBytes]byte{1})
	sealed := s.seal("credential/a", 7, []byte("plain"))
	plain, err := s.open("credential/a", sealed)
	require.NoError(t, err)
	require.Equal(t, "plain", string(plain))
	require.EqualValues(t, 7, versionOf(sealed))
	require.NotContains(t, string(sealed), "plain")

	_, err = s.open("credential/b", sealed)
	require.ErrorIs(t, err, errUnsealed, "another name")
	_, err = newSealer([keyBytes]byte{2}).open("credential/a", sealed)
	require.ErrorIs(t, err, errUnsealed, "another key")
	for i := range sealed {
		bent := bytes.Clone(sealed)
		bent[i] ^= 1
		_, err := s.open("credential/a", bent)
		require.ErrorIs(t, err, errUnsealed, "byte %d, the version's included", i)
		_, err = s.open("credential/a", sealed[:i])
		require.ErrorIs(t, err, errUnsealed, "cut at %d", i)
	}
}

// TestVersionsGoUp: each time a record is written its version is the next one.
func TestVersionsGoUp(t *testing.T) {
	o := onDisk(t)
	s := open(t, o)
	var id string
	for range 3 {
		var err error
		id, err = s.Store(CredentialParams{Service: "github", AccessToken: secret.New("x")})
		require.NoError(t, err)
	}
	file := s.records.journal.(*dataFile)
	require.NoError(t, file.db.View(func(tx *bolt.Tx) error {
		require.EqualValues(t, 3, versionOf(tx.Bucket(recordBucket).Get([]byte("credential/"+id))))
		return nil
	}))
	require.NoError(t, s.Close())
}

// requireUntouched runs f and sees to it that no file in the directory changed.
func requireUntouched(t *testing.T, dir string, f func()) {
	t.Helper()
	read := func() map[string][]byte {
		all := map[string][]byte{}
		files, err := os.ReadDir(dir)
		require.NoError(t, err)
		for _, one := range files {
			content, _ := os.ReadFile(filepath.Join(dir, one.Name()))
			all[one.Name()] = content
		}
		return all
	}
	before := read()
	f()
	after := read()
	require.Len(t, after, len(before))
	for name := range before {
		require.True(t, bytes.Equal(before[name], after[name]), "%s was changed", name)
	}
}

func TestWrongKey(t *testing.T) {
	o := onDisk(t)
	filled(t, o, 3)
	require.NoError(t, os.WriteFile(o.DataFile+".key", []byte(strings.Repeat("ab", keyBytes)+"\n"), 0o600))
	requireUntouched(t, filepath.Dir(o.DataFile), func() {
		_, err := New(o)
		require.ErrorIs(t, err, ErrWrongKey)
		require.ErrorContains(t, err, o.DataFile)
		require.ErrorContains(t, err, o.DataFile+".key")
		require.NotContains(t, err.Error(), "abab")
	})
}

func TestMissingKey(t *testing.T) {
	o := onDisk(t)
	filled(t, o, 3)
	require.NoError(t, os.Remove(o.DataFile+".key"))
	requireUntouched(t, filepath.Dir(o.DataFile), func() {
		_, err := New(o)
		require.ErrorIs(t, err, fs.ErrNotExist)
		require.ErrorContains(t, err, "can't be read without its key")
	})
}

// TestKeyWithoutData: a kill between the two leaves a key, which is used then.
func TestKeyWithoutData(t *testing.T) {
	o := onDisk(t)
	key := strings.Repeat("cd", keyBytes)
	require.NoError(t, os.WriteFile(o.DataFile+".key", []byte(key), 0o600))
	filled(t, o, 1)
	content, err := os.ReadFile(o.DataFile + ".key")
	require.NoError(t, err)
	require.Equal(t, key, string(content))
	open(t, o)
}

// requireRefusedOrWhole opens the data file after it was changed to bad: it is
// refused as damaged and stays as it is, or nothing that matters was changed and
// all of the first n credentials are there. It returns whether it was refused.
func requireRefusedOrWhole(t *testing.T, o Options, bad []byte, n int) bool {
	t.Helper()
	require.NoError(t, os.WriteFile(o.DataFile, bad, 0o600))
	s, err := New(o)
	if err != nil {
		if !strings.Contains(err.Error(), "its format is") {
			require.ErrorIs(t, err, ErrDamaged)
		}
		after, err := os.ReadFile(o.DataFile)
		require.NoError(t, err)
		require.True(t, bytes.Equal(bad, after), "the file was changed")
		return true
	}
	for i := range n {
		kept, ok := s.records.find(owner{DefaultDeveloper, DefaultPrincipal, fmt.Sprintf("service-%d", i)})
		require.True(t, ok, "service-%d is lost", i)
		require.Equal(t, fmt.Sprintf("made-up-%d", i), kept.AccessToken.Reveal())
	}
	require.NoError(t, s.Close())
	return false
}

// TestDamageAnywhere changes a byte here and there.
func TestDamageAnywhere(t *testing.T) {
	const credentials, places = 60, 150
	o := onDisk(t)
	filled(t, o, credentials)
	good, err := os.ReadFile(o.DataFile)
	require.NoError(t, err)
	refused := 0
	for i := range places {
		bad := bytes.Clone(good)
		bad[i*len(bad)/places+i%pageHeader] ^= 1 << (i % 8)
		if requireRefusedOrWhole(t, o, bad, credentials) {
			refused++
		}
	}
	require.Greater(t, refused, 10)
	require.Less(t, refused, places, "there are pages not in use")
}

// FuzzDamage changes a few bytes of a data file, and may cut it off. It must be
// neither taken for good nor crash or hang the vault.
func FuzzDamage(f *testing.F) {
	const credentials = 20
	dir := f.TempDir()
	o := Options{DataFile: filepath.Join(dir, "vault.db"), SigningKey: sharedKey()}
	s, err := New(o)
	require.NoError(f, err)
	for i := range credentials {
		_, err := s.Store(CredentialParams{
			Service: fmt.Sprintf("service-%d", i), AccessToken: secret.New(fmt.Sprintf("made-up-%d", i)),
		})
		require.NoError(f, err)
	}
	require.NoError(f, s.Close())
	good, err := os.ReadFile(o.DataFile)
	require.NoError(f, err)
	for at := uint32(0); at < uint32(len(good)); at += filePageBytes {
		f.Add(at, []byte{1}, uint32(0))
		f.Add(at+8, []byte{1, 0, 1}, uint32(0))
		f.Add(at+pageHeader, bytes.Repeat([]byte{3}, elementSize), at)
	}
	f.Fuzz(func(t *testing.T, at uint32, mask []byte, cut uint32) {
		bad := bytes.Clone(good)
		for i, m := range mask {
			bad[(int(at)+i)%len(bad)] ^= m
		}
		if cut > 0 && int(cut) < len(bad) {
			bad = bad[:cut]
		}
		own := o // fuzzing runs in several processes at once
		own.DataFile = filepath.Join(t.TempDir(), "vault.db")
		own.KeyFile = o.DataFile + ".key"
		requireRefusedOrWhole(t, own, bad, credentials)
	})
}

func TestDamage(t *testing.T) {
	half := func(b []byte) []byte { return b[:len(b)/2] }
	flip := func(at int) func([]byte) []byte {
		return func(b []byte) []byte { b[at] ^= 1; return b }
	}
	cases := map[string]func([]byte) []byte{
		"empty":           func([]byte) []byte { return nil },
		"one page":        func(b []byte) []byte { return b[:filePageBytes] },
		"the heads only":  func(b []byte) []byte { return b[:2*filePageBytes] },
		"half":            half,
		"a text":          func([]byte) []byte { return []byte("hello, world\n") },
		"zeros":           func(b []byte) []byte { return make([]byte, len(b)) },
		"a long text":     func(b []byte) []byte { return bytes.Repeat([]byte("hello, world\n"), len(b)/13) },
		"first head":      flip(headTx),
		"second head":     flip(filePageBytes + headTx),
		"first checksum":  flip(headSum),
		"second checksum": flip(filePageBytes + headSum),
		"all pages": func(b []byte) []byte {
			for i := 2 * filePageBytes; i < len(b); i++ {
				b[i] ^= 0xff
			}
			return b
		},
		"pages without content": func(b []byte) []byte {
			clear(b[2*filePageBytes:])
			return b
		},
	}
	o := onDisk(t)
	filled(t, o, 60)
	good, err := os.ReadFile(o.DataFile)
	require.NoError(t, err)
	for name, damage := range cases {
		t.Run(name, func(t *testing.T) {
			require.NoError(t, os.WriteFile(o.DataFile, damage(bytes.Clone(good)), 0o600))
			requireUntouched(t, filepath.Dir(o.DataFile), func() {
				_, err := New(o)
				require.ErrorIs(t, err, ErrDamaged)
				require.ErrorContains(t, err, o.DataFile)
			})
		})
	}
	require.NoError(t, os.WriteFile(o.DataFile, good, 0o600))
	open(t, o)
}

// change alters a data file behind the vault's back.
func change(t *testing.T, o Options, f func(meta, records *bolt.Bucket) error) {
	t.Helper()
	db, err := openBolt(o.DataFile)
	require.NoError(t, err)
	require.NoError(t, db.Update(func(tx *bolt.Tx) error {
		return f(tx.Bucket(metaBucket), tx.Bucket(recordBucket))
	}))
	require.NoError(t, db.Close())
}

// TestTampering: what was not sealed as it stands is damage, even in a sound
// bbolt file.
func TestTampering(t *testing.T) {
	first := func(b *bolt.Bucket) (name, sealed []byte) {
		name, sealed = b.Cursor().Seek([]byte("credential/"))
		return bytes.Clone(name), bytes.Clone(sealed)
	}
	cases := map[string]struct {
		change func(meta, records *bolt.Bucket) error
		want   error
	}{
		"a record is missing": {func(_, records *bolt.Bucket) error {
			name, _ := first(records)
			return records.Delete(name)
		}, ErrDamaged},
		"a record has another name": {func(_, records *bolt.Bucket) error {
			name, sealed := first(records)
			if err := records.Delete(name); err != nil {
				return err
			}
			return records.Put([]byte("credential/vault_x"), sealed)
		}, ErrDamaged},
		"a record has another version": {func(_, records *bolt.Bucket) error {
			name, sealed := first(records)
			sealed[7]++
			return records.Put(name, sealed)
		}, ErrDamaged},
		"a record more": {func(_, records *bolt.Bucket) error {
			return records.Put([]byte("credential/vault_x"), []byte("plain text"))
		}, ErrDamaged},
		"no manifest": {func(meta, _ *bolt.Bucket) error { return meta.Delete(manifestKey) }, ErrDamaged},
		"another key's id": {func(meta, _ *bolt.Bucket) error {
			return meta.Put(keyIDKey, []byte("12345678"))
		}, ErrDamaged},
		"another key's id and manifest": {func(meta, _ *bolt.Bucket) error {
			if err := meta.Put(keyIDKey, []byte("12345678")); err != nil {
				return err
			}
			return meta.Delete(manifestKey)
		}, ErrWrongKey},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			o := onDisk(t)
			filled(t, o, 3)
			change(t, o, tc.change)
			requireUntouched(t, filepath.Dir(o.DataFile), func() {
				_, err := New(o)
				require.ErrorIs(t, err, tc.want)
			})
		})
	}
}

// TestAnotherFormat: a file of a later version is not damaged, and not touched.
func TestAnotherFormat(t *testing.T) {
	o := onDisk(t)
	filled(t, o, 1)
	change(t, o, func(meta, _ *bolt.Bucket) error { return meta.Put(formatKey, []byte("2")) })
	requireUntouched(t, filepath.Dir(o.DataFile), func() {
		_, err := New(o)
		require.ErrorContains(t, err, `its format is "2"`)
		require.NotErrorIs(t, err, ErrDamaged)
	})
}

// TestRecordsOfAnotherVersion are refused, not dropped.
func TestRecordsOfAnotherVersion(t *testing.T) {
	for name, record := range map[string]struct {
		kind  recordKind
		id    string
		value string
		want  string
	}{
		"kind":         {"agent", "ag_1", "{}", `kind "agent"`},
		"credential":   {credentialRecord, "vault_x", "canary", "decoding a credential"},
		"grant":        {grantRecord, "grnt_x", "canary", "decoding a grant"},
		"signing keys": {secretRecord, "signing-keys", "canary", "decoding the signing keys"},
		"signing key":  {secretRecord, "signing-keys", `{"rsa":"AAAA"}`, "decoding the signing key"},
	} {
		t.Run(name, func(t *testing.T) {
			o := onDisk(t)
			s := open(t, o)
			require.NoError(t, s.records.journal.save(record.kind, record.id, []byte(record.value)))
			require.NoError(t, s.Close())
			_, err := New(o)
			require.ErrorContains(t, err, record.want)
			require.NotContains(t, err.Error(), "canary")
		})
	}
}

// TestNotADataFile: a bbolt file of somebody else.
func TestNotADataFile(t *testing.T) {
	o := onDisk(t)
	db, err := openBolt(o.DataFile)
	require.NoError(t, err)
	require.NoError(t, db.Close())
	require.NoError(t, os.WriteFile(o.DataFile+".key", make([]byte, keyBytes), 0o600))
	_, err = New(o)
	require.ErrorIs(t, err, ErrDamaged)
	require.ErrorContains(t, err, "not a data file of devvault")
}

func TestInUse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) { // the wait for the lock takes no time here
		o := onDisk(t)
		s := open(t, o)
		start := time.Now()
		_, err := New(o)
		require.ErrorIs(t, err, ErrInUse)
		require.ErrorContains(t, err, o.DataFile)
		require.InDelta(t, lockTimeout.Seconds(), time.Since(start).Seconds(), 0.1)

		time.AfterFunc(lockTimeout/2, func() { _ = s.Close() })
		open(t, o)
	})
}

func TestStoreFailsIfItCantBeSaved(t *testing.T) {
	o := onDisk(t)
	o.APIKey = secret.New(testAPIKey)
	var log bytes.Buffer
	o.Logger = slog.New(slog.NewJSONHandler(&log, nil))
	s := open(t, o)
	id, err := s.Store(CredentialParams{Service: "kept", AccessToken: secret.New("made-up")})
	require.NoError(t, err)
	require.NoError(t, s.records.journal.close()) // now nothing can be saved

	got := ask(s.Handler(), "POST", pathCredentials, testAPIKey, credentialBody("github", "canary", ""))
	require.Equal(t, 500, got.status)
	require.Equal(t, 500, ask(s.Handler(), "DELETE", pathCredentials+"/"+id, testAPIKey, "").status)
	require.Equal(t, 500, admin(s, "POST", "/credentials", credentialBody("github", "canary", "")).status)
	require.Equal(t, 500, admin(s, "POST", "/grants", `{}`).status)
	require.Contains(t, log.String(), "not saved")
	require.Contains(t, log.String(), "not deleted")
	require.NotContains(t, log.String(), "canary")
	require.Len(t, s.records.credentials, 1, "memory holds what is saved")
	require.Empty(t, s.Grants())
}

func TestKeyFiles(t *testing.T) {
	raw := bytes.Repeat([]byte{0xa5}, keyBytes)
	hexed := hex.EncodeToString(raw)
	cases := []struct {
		name    string
		prepare func(path string) error
		want    string // of the error; "" for a good key
	}{
		{"hex", func(p string) error { return os.WriteFile(p, []byte(hexed), 0o600) }, ""},
		{"hex with white space", func(p string) error { return os.WriteFile(p, []byte("  "+hexed+"\r\n"), 0o400) }, ""},
		{"hex in capitals", func(p string) error { return os.WriteFile(p, []byte(strings.ToUpper(hexed)), 0o600) }, ""},
		{"raw", func(p string) error { return os.WriteFile(p, raw, 0o600) }, ""},
		{"missing", func(string) error { return nil }, "no such file"},
		{"empty", func(p string) error { return os.WriteFile(p, nil, 0o600) }, "holds no key"},
		{"too short", func(p string) error { return os.WriteFile(p, []byte(hexed[2:]), 0o600) }, "holds no key"},
		{"too long", func(p string) error { return os.WriteFile(p, []byte(hexed+"00"), 0o600) }, "holds no key"},
		{"not hex", func(p string) error { return os.WriteFile(p, []byte("x"+hexed[1:]), 0o600) }, "holds no key"},
		{"huge", func(p string) error { return os.WriteFile(p, make([]byte, 1<<20), 0o600) }, "holds no key"},
		{"group can read it", func(p string) error { return os.WriteFile(p, raw, 0o640) }, "mode 0640"},
		{"all can read it", func(p string) error { return os.WriteFile(p, raw, 0o604) }, "mode 0604"},
		{"directory", func(p string) error { return os.Mkdir(p, 0o700) }, "not a regular file"},
		{"FIFO", func(p string) error { return unix.Mkfifo(p, 0o600) }, "not a regular file"},
		{"symbolic link", func(p string) error {
			return errorsOf(os.WriteFile(p+".real", raw, 0o600), os.Symlink(p+".real", p))
		}, "symbolic link"},
	}
	for _, tc := range cases {
		t.Run(tc.name, func(t *testing.T) {
			o := onDisk(t)
			o.KeyFile = filepath.Join(t.TempDir(), "key")
			require.NoError(t, tc.prepare(o.KeyFile))
			s, err := New(o)
			if tc.want == "" {
				require.NoError(t, err)
				require.NoError(t, s.Close())
				require.NoFileExists(t, o.DataFile+".key")
				return
			}
			require.ErrorContains(t, err, tc.want)
			require.NotContains(t, err.Error(), hexed[4:12])
			require.NoFileExists(t, o.DataFile, "nothing is made without a key")
		})
	}
}

func errorsOf(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

func TestKeyFromSystemd(t *testing.T) {
	raw := bytes.Repeat([]byte{1}, keyBytes)
	o := onDisk(t)
	o.CredentialsDir = t.TempDir()
	key := filepath.Join(o.CredentialsDir, "devvault.key")
	require.NoError(t, os.WriteFile(key, raw, 0o440))
	filled(t, o, 1)
	require.NoFileExists(t, o.DataFile+".key")

	require.NoError(t, os.Chmod(key, 0o444))
	_, err := New(o)
	require.ErrorContains(t, err, "others can read it")

	o.CredentialsDir = t.TempDir() // none in there: the key beside the data
	_, err = New(o)
	require.ErrorContains(t, err, o.DataFile+".key")
	o.KeyFile = key
	_, err = New(o)
	require.ErrorContains(t, err, "0444", "a path that is given is judged more strictly")
	require.NoError(t, os.Chmod(key, 0o400))
	open(t, o)
}

func TestDataFilePlaces(t *testing.T) {
	t.Run("directory missing", func(t *testing.T) {
		o := onDisk(t)
		o.DataFile = filepath.Join(t.TempDir(), "none", "vault.db")
		_, err := New(o)
		require.ErrorIs(t, err, fs.ErrNotExist)
	})
	t.Run("is a directory", func(t *testing.T) {
		o := onDisk(t)
		o.DataFile = t.TempDir()
		_, err := New(o)
		require.ErrorContains(t, err, "not a regular file")
	})
	t.Run("below a file", func(t *testing.T) {
		o := onDisk(t)
		filled(t, o, 0)
		o.DataFile += "/vault.db"
		_, err := New(o)
		require.ErrorIs(t, err, unix.ENOTDIR)
	})
	t.Run("others can read it", func(t *testing.T) {
		o := onDisk(t)
		filled(t, o, 0)
		require.NoError(t, os.Chmod(o.DataFile, 0o644))
		var log bytes.Buffer
		o.Logger = slog.New(slog.NewTextHandler(&log, nil))
		open(t, o)
		require.Contains(t, log.String(), "others can read the data file")
	})
}

// TestPublish: a file that is there is never replaced, and a failed one leaves
// nothing.
func TestPublish(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "file")
	text := func(s string) func(*os.File) error {
		return func(f *os.File) error { _, err := f.WriteString(s); return err }
	}
	require.ErrorIs(t, publish(path, func(*os.File) error { return unix.ENOSPC }), unix.ENOSPC)
	require.NoFileExists(t, path)
	require.NoError(t, publish(path, text("first")))
	require.ErrorIs(t, publish(path, text("second")), fs.ErrExist)
	content, err := os.ReadFile(path)
	require.NoError(t, err)
	require.Equal(t, "first", string(content))
	left, err := os.ReadDir(dir)
	require.NoError(t, err)
	require.Len(t, left, 1)

	place := keyPlace{path: path, forbidden: otherUsers, creatable: true}
	require.NoError(t, place.create(), "another process was faster: its key will be read")
}
