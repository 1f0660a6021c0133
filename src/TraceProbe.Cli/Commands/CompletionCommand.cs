using System.CommandLine;

namespace TraceProbe.Cli.Commands;

/// <summary><c>traceprobe completion bash|zsh|fish</c>: the script that lets a shell complete verbs, options and names.</summary>
internal static class CompletionCommand
{
    // Each asks traceprobe itself through its [suggest] directive, so the scripts need not change when the verbs do.
    private const string Bash = """
        # In ~/.bashrc:  source <(traceprobe completion bash)
        _traceprobe() {
            local word="${COMP_WORDS[COMP_CWORD]}" found IFS=$'\n'
            found=$(traceprobe "[suggest:${COMP_POINT}]" "${COMP_LINE}" 2>/dev/null)
            # Options only for who has begun one, so that a name that stands alone completes at once.
            [[ ${word} == -* ]] || found=$(grep -v '^-' <<<"${found}")
            COMPREPLY=($(compgen -W "${found}" -- "${word}"))
        }
        complete -o default -F _traceprobe traceprobe

        """;

    private const string Zsh = """
        #compdef traceprobe
        # In ~/.zshrc, behind compinit:  source <(traceprobe completion zsh)
        _traceprobe() {
            local -a words_found
            words_found=("${(@f)$(traceprobe "[suggest:${CURSOR}]" "${BUFFER}" 2>/dev/null)}")
            compadd -- "${words_found[@]}" || _files
        }
        compdef _traceprobe traceprobe

        """;

    private const string Fish = """
        # traceprobe completion fish > ~/.config/fish/completions/traceprobe.fish
        function __traceprobe_complete
            set -l line (commandline --cut-at-cursor)
            traceprobe "[suggest:"(string length -- "$line")"]" "$line" 2>/dev/null
        end
        complete -c traceprobe -f -a '(__traceprobe_complete)'

        """;

    /// <summary>The command.</summary>
    public static Command Create()
    {
        var shell = new Argument<string>("SHELL") { Description = "bash, zsh or fish.", HelpName = "SHELL" };
        shell.AcceptOnlyFromAmong("bash", "zsh", "fish");
        var command = new Verb("completion", "Print the script that completes verbs, options and names in a shell.")
        {
            Examples =
            [
                ("source <(traceprobe completion bash)", "for this shell; put it into ~/.bashrc for all"),
                ("traceprobe completion fish > ~/.config/fish/completions/traceprobe.fish", "for fish"),
            ],
        };
        command.Arguments.Add(shell);
        command.SetAction(parsed =>
        {
            Console.Out.Write(parsed.GetRequiredValue(shell) switch { "zsh" => Zsh, "fish" => Fish, _ => Bash });
            return ExitCode.Healthy;
        });
        return command;
    }
}
