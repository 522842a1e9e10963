const BASH = `# Completion of cyber-collect for bash, from \`cyber-collect completion bash\`.
_cyber_collect() {
  local word current=\${COMP_WORDS[COMP_CWORD]}
  COMPREPLY=()
  while IFS=$'\\t' read -r word _; do
    case $word in
      :files)
        compopt -o filenames 2>/dev/null
        [ "$current" = = ] && current=
        while IFS= read -r word; do COMPREPLY+=("$word"); done < <(compgen -f -- "$current") ;;
      :open) compopt -o nospace 2>/dev/null ;;
      *) COMPREPLY+=("$word") ;;
    esac
  done < <("\${1/#\\~/$HOME}" __complete -- "\${COMP_WORDS[@]:1:COMP_CWORD}" </dev/null 2>/dev/null)
}
complete -F _cyber_collect cyber-collect
`;

const ZSH = `#compdef cyber-collect
# Completion of cyber-collect for zsh, from \`cyber-collect completion zsh\`.
_cyber_collect() {
  local line files
  local -a candidates end
  for line in "\${(@f)$("\${words[1]/#\\~/$HOME}" __complete -- "\${(@Q)words[2,CURRENT]}" </dev/null 2>/dev/null)}"; do
    case $line in
      :files) files=1 ;;
      :open) end=(-S '') ;;
      ?*) candidates+=("\${\${line%%$'\\t'*}//:/\\\\:}:\${line#*$'\\t'}") ;;
    esac
  done
  if [[ -n $files ]]; then
    compset -P '--*='
    _files
  else
    _describe 'cyber-collect' candidates "\${end[@]}"
  fi
}
if [[ $funcstack[1] = _cyber-collect ]]; then
  _cyber_collect "$@"
else
  compdef _cyber_collect cyber-collect
fi
`;

const FISH = `# Completion of cyber-collect for fish, from \`cyber-collect completion fish\`.
function __cyber_collect_complete
    set -l words (commandline -opc)
    set -l word (commandline -ct)
    for line in (cyber-collect __complete -- $words[2..] "$word" </dev/null 2>/dev/null)
        switch $line
            case ':files'
                set -l flag (string match -r -- '^--[\\w-]+=' "$word")
                for path in (__fish_complete_path (string replace -r -- '^--[\\w-]+=' '' "$word"))
                    echo "$flag$path"
                end
            case ':open'
            case '*'
                echo $line
        end
    end
end
complete -c cyber-collect -f -a '(__cyber_collect_complete)'
`;

const SCRIPTS = { bash: BASH, zsh: ZSH, fish: FISH };

/** Prints the script that completes command lines in a shell; returns the exit code. */
export async function completion(shell: keyof typeof SCRIPTS): Promise<number> {
  process.stdout.write(SCRIPTS[shell]);
  return 0;
}
