package daemon

import "strings"

// Warning is something about the configuration that a person should look at and
// that stops nothing.
type Warning struct {
	// Message says what it is and what to do, in one line.
	Message string
}

// ConfigError is one mistake in the configuration. It never holds a value: a
// token may have been put in the wrong place.
type ConfigError struct {
	// Origin is where the mistake is: "file:line:column", the name of an
	// environment variable, or a flag with its dashes.
	Origin string
	// Key is the key that it is about, "" if that can't be said.
	Key string
	// Problem says what is wrong and what to do.
	Problem string
}

// Error returns the mistake in one line.
func (e ConfigError) Error() string {
	if e.Key == "" {
		return e.Origin + ": " + e.Problem
	}
	return e.Origin + ": " + e.Key + ": " + e.Problem
}

// ConfigErrors are all mistakes in the configuration: those of the file in its
// order, then those of the environment, then those of the flags.
type ConfigErrors []ConfigError

// Error returns one line for each mistake.
func (errs ConfigErrors) Error() string {
	lines := make([]string, len(errs))
	for i, e := range errs {
		lines[i] = e.Error()
	}
	return strings.Join(lines, "\n")
}
