package devvault

import (
	"bufio"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/grantexd/grantexd/upstream/secret"
)

// The crash test kills a process in the middle of its stores. These variables of
// the environment make it a longer one, and tell its child what it is.
const (
	envRounds = "DEVVAULT_CRASH_ROUNDS"
	envStores = "DEVVAULT_CRASH_STORES"
	envChild  = "DEVVAULT_CRASH_DATA_FILE"
	// defaultRounds and defaultStores keep the package's tests short.
	defaultRounds = 5
	defaultStores = 100
)

// storeUntilKilled is the child: it stores one credential after the other and
// says each time that it did. It returns false in a process that is no child.
func storeUntilKilled() bool {
	path := os.Getenv(envChild)
	if path == "" {
		return false
	}
	s, err := New(Options{DataFile: path})
	if err != nil {
		fmt.Println("open:", err)
		return true
	}
	for i := 0; ; i++ {
		// A third of them replace what is there.
		service := fmt.Sprintf("s-%d-%d", os.Getpid(), i-i%3/2)
		token := fmt.Sprintf("token-%d-%d", os.Getpid(), i)
		if _, err := s.Store(CredentialParams{Service: service, AccessToken: secret.New(token)}); err != nil {
			fmt.Println("store:", err)
			return true
		}
		// One write for each line: an acknowledgement is there, or isn't.
		_, _ = io.WriteString(os.Stdout, service+" "+token+"\n")
	}
}

func fromEnv(t *testing.T, name string, otherwise int) int {
	t.Helper()
	text := os.Getenv(name)
	if text == "" {
		return otherwise
	}
	n, err := strconv.Atoi(text)
	require.NoError(t, err, name)
	return n
}

// TestKilledInTheMiddleOfStores: whatever was acknowledged is there afterwards,
// and the file opens.
func TestKilledInTheMiddleOfStores(t *testing.T) {
	rounds, stores := fromEnv(t, envRounds, defaultRounds), fromEnv(t, envStores, defaultStores)
	o := onDisk(t)
	filled(t, o, 1)
	acknowledged := map[string]string{}
	for round := range rounds {
		after := 1 + rand.IntN(stores)
		child := killAfter(t, o.DataFile, after, acknowledged)
		s := open(t, o)
		for service, token := range acknowledged {
			kept, ok := s.records.find(owner{DefaultDeveloper, DefaultPrincipal, service})
			require.True(t, ok, "round %d: %s is lost", round, service)
			found := kept.AccessToken.Reveal()
			require.Equal(t, token, latest(found, token, child), "round %d: %s", round, service)
			acknowledged[service] = found // what was saved has to stay from here on
		}
		// One store may have been saved and not yet acknowledged.
		require.LessOrEqual(t, len(s.records.credentials), len(acknowledged)+1+round+1)
		require.NoError(t, s.Close())
	}
	litter, err := filepath.Glob(filepath.Dir(o.DataFile) + "/*.new")
	require.NoError(t, err)
	require.Empty(t, litter)
}

// latest returns acknowledged if kept is it, or is the store after it by the
// child that was killed, whose acknowledgement the kill cut off.
func latest(kept, acknowledged, child string) string {
	prefix := "token-" + child + "-"
	a, okA := strings.CutPrefix(acknowledged, prefix)
	k, okK := strings.CutPrefix(kept, prefix)
	if okA && okK {
		before, _ := strconv.Atoi(a)
		if k == strconv.Itoa(before+1) {
			return acknowledged
		}
	}
	return kept
}

// killAfter starts a child, kills it after a number of stores, and notes what it
// had acknowledged by then. It returns the child's process id.
func killAfter(t *testing.T, path string, stores int, acknowledged map[string]string) string {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), envChild+"="+path)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	lines := bufio.NewScanner(out)
	n := 0
	for lines.Scan() {
		service, token, ok := strings.Cut(lines.Text(), " ")
		require.True(t, ok && strings.HasPrefix(token, "token-"), lines.Text())
		acknowledged[service] = token
		if n++; n == stores {
			require.NoError(t, cmd.Process.Kill()) // more lines may be in the pipe: they count too
		}
	}
	require.Error(t, cmd.Wait(), "it was killed")
	require.GreaterOrEqual(t, n, stores)
	return strconv.Itoa(cmd.Process.Pid)
}

// TestKilledAtBirth kills processes while they make a data file: the next one
// can go on from whatever they left.
func TestKilledAtBirth(t *testing.T) {
	for left, prepare := range map[string]func(o Options) error{
		"nothing": func(Options) error { return nil },
		"a key": func(o Options) error {
			return o.keyPlace().create()
		},
		"a key that was not yet in place": func(o Options) error {
			return os.WriteFile(o.DataFile+".key.123.new", []byte("ab"), 0o600)
		},
		"data that were not yet in place": func(o Options) error {
			return errorsOf(o.keyPlace().create(), os.WriteFile(o.DataFile+".123.new", []byte("half"), 0o600))
		},
		"data without records": func(o Options) error {
			if err := o.keyPlace().create(); err != nil {
				return err
			}
			key, err := o.keyPlace().read()
			return errorsOf(err, createDataFile(o.DataFile, newSealer(key)))
		},
	} {
		t.Run(left, func(t *testing.T) {
			o := onDisk(t)
			require.NoError(t, prepare(o))
			token := filled(t, o, 1)
			require.Equal(t, 200, askFor(open(t, o), token, "service-0").status)
		})
	}
}
