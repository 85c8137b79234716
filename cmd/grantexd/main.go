// Command grantexd hands the credentials that an AI agent's grant opens to the
// local processes that may have them. The packages beside it do the work; here
// are the commands, one to a file.
package main

import (
	"context"
	"os"
)

func main() {
	os.Exit(run(context.Background(), os.Args[1:], os.Environ(), stdio{os.Stdin, os.Stdout, os.Stderr}))
}
