// Checks what other programs read: `checks workflow FILE...` is actionlint, `checks compose [--env-file FILE] [--profile NAME] FILE`
// reads a Compose file as `docker compose config` does, and prints it with its variables filled in, as JSON.
package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"os"

	"github.com/compose-spec/compose-go/v2/cli"
	"github.com/rhysd/actionlint"
)

func main() {
	verb := ""
	if len(os.Args) > 1 {
		verb = os.Args[1]
	}
	switch verb {
	case "workflow":
		command := actionlint.Command{Stdin: os.Stdin, Stdout: os.Stdout, Stderr: os.Stderr}
		os.Exit(command.Main(os.Args[1:]))
	case "compose":
		if err := compose(os.Args[2:]); err != nil {
			fmt.Fprintln(os.Stderr, "checks compose:", err)
			os.Exit(1)
		}
	default:
		fmt.Fprintln(os.Stderr, "usage: checks workflow FILE... | checks compose [--env-file FILE] [--profile NAME] FILE")
		os.Exit(2)
	}
}

// compose prints one file's project. The environment is that of the env file alone, so that the result is everywhere the same.
func compose(arguments []string) error {
	flags := flag.NewFlagSet("checks compose", flag.ExitOnError)
	env := flags.String("env-file", "", "file of variables")
	profile := flags.String("profile", "*", "profile whose services are taken along; * for all")
	if err := flags.Parse(arguments); err != nil {
		return err
	}
	if flags.NArg() != 1 {
		return fmt.Errorf("one file is checked at a time, not %d", flags.NArg())
	}
	with := []cli.ProjectOptionsFn{cli.WithProfiles([]string{*profile}), cli.WithResolvedPaths(true)}
	if *env != "" {
		with = append(with, cli.WithEnvFiles(*env), cli.WithDotEnv)
	}
	options, err := cli.NewProjectOptions(flags.Args(), with...)
	if err != nil {
		return err
	}
	project, err := options.LoadProject(context.Background())
	if err != nil {
		return err
	}
	printer := json.NewEncoder(os.Stdout)
	printer.SetIndent("", "  ")
	return printer.Encode(project)
}
