package main

import (
	"io"
	"os"
	"strings"
	"time"

	"golang.org/x/term"
)

// isTerminal reports whether a stream is a terminal.
func isTerminal(stream any) bool {
	f, ok := stream.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}

// palette colours words, or leaves them as they are.
type palette struct{ on bool }

// palette returns the colours for standard output: none unless it is a terminal
// that has some, and none with NO_COLOR (https://no-color.org).
func (a *app) palette() palette {
	return palette{on: isTerminal(a.out) && a.getenv("NO_COLOR") == "" && a.getenv("TERM") != "dumb"}
}

func (p palette) paint(code, word string) string {
	if !p.on {
		return word
	}
	return "\x1b[" + code + "m" + word + "\x1b[0m"
}

func (p palette) good(word string) string { return p.paint("32", word) }
func (p palette) fair(word string) string { return p.paint("33", word) }
func (p palette) bad(word string) string  { return p.paint("31", word) }
func (p palette) bold(word string) string { return p.paint("1", word) }

// table is rows of cells, aligned by what a person sees of them: colours take no
// room.
type table struct{ rows [][]string }

func (t *table) row(cells ...string) { t.rows = append(t.rows, cells) }

// print writes the table, with two spaces between columns.
func (t *table) print(w io.Writer) error {
	var widths []int
	for _, row := range t.rows {
		for i, cell := range row {
			if i == len(widths) {
				widths = append(widths, 0)
			}
			widths[i] = max(widths[i], visible(cell))
		}
	}
	for _, row := range t.rows {
		var line strings.Builder
		for i, cell := range row {
			line.WriteString(cell)
			if i < len(row)-1 {
				line.WriteString(strings.Repeat(" ", widths[i]-visible(cell)+2))
			}
		}
		if _, err := io.WriteString(w, strings.TrimRight(line.String(), " ")+"\n"); err != nil {
			return err
		}
	}
	return nil
}

// visible is how many characters of a cell are seen.
func visible(cell string) int {
	n, escape := 0, false
	for _, r := range cell {
		switch {
		case r == '\x1b':
			escape = true
		case escape:
			escape = r != 'm'
		default:
			n++
		}
	}
	return n
}

// plain makes text from elsewhere safe for a terminal: control characters, with
// which it could move the cursor, become question marks.
func plain(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r >= 0x7f && r < 0xa0 {
			return '?'
		}
		return r
	}, s)
}

// seconds writes a number of seconds as people say it: 59m48s, 23h59m, 12d.
func seconds(s float64) string {
	d := time.Duration(s * float64(time.Second))
	switch {
	case d.Abs() < time.Second:
		return d.Round(10 * time.Millisecond).String()
	case d.Abs() < time.Hour:
		return d.Round(time.Second).String()
	case d.Abs() < 48*time.Hour:
		return strings.TrimSuffix(d.Round(time.Minute).String(), "0s")
	}
	return strings.TrimSuffix((d.Round(time.Hour)).String(), "0m0s")
}
