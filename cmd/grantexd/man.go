package main

import (
	"os"
	"strconv"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/cobra/doc"
)

// manCommand writes the manual pages that packages install. It is for whoever
// builds a package, so help does not show it.
func (a *app) manCommand() *cobra.Command {
	return &cobra.Command{
		Use:     "man DIRECTORY",
		Short:   "Write the manual pages into a directory",
		Long:    "man writes a page for each command. Their date is $SOURCE_DATE_EPOCH, or today.",
		Example: "  grantexd man /usr/local/share/man/man1",
		Hidden:  true,
		Args:    oneArg("the directory"),
		RunE: func(cmd *cobra.Command, args []string) error {
			date, err := a.sourceDate()
			if err != nil {
				return err
			}
			if err := os.MkdirAll(args[0], 0o755); err != nil {
				return err
			}
			root := cmd.Root()
			root.DisableAutoGenTag = true // the same bytes from the same source
			return doc.GenManTree(root, &doc.GenManHeader{Section: "1", Source: "grantexd " + build().Version, Date: &date}, args[0])
		},
	}
}

// sourceDate is the date of what is made from the source
// (https://reproducible-builds.org/specs/source-date-epoch/).
func (a *app) sourceDate() (time.Time, error) {
	epoch := a.getenv("SOURCE_DATE_EPOCH")
	if epoch == "" {
		return time.Now().UTC(), nil
	}
	seconds, err := strconv.ParseInt(epoch, 10, 64)
	if err != nil {
		return time.Time{}, usagef("SOURCE_DATE_EPOCH is not a whole number: it must be seconds since 1970")
	}
	return time.Unix(seconds, 0).UTC(), nil
}
