# omnimemory for zsh: writes down each command when it has ended; the next call of omnimemory reads it.
# Ctrl-X Ctrl-N puts a suggestion on the command line (again: the next one). Nothing is ever run by itself.
if [[ -o interactive && -z ${_omnimemory_spool-} ]]; then
  zmodload zsh/datetime zsh/parameter
  typeset -g _omnimemory_session="$$-$EPOCHSECONDS" _omnimemory_folder=@SPOOL@
  typeset -g _omnimemory_spool="$_omnimemory_folder/zsh.$_omnimemory_session.spool"
  typeset -g _omnimemory_command='' _omnimemory_cwd='' _omnimemory_start='' _omnimemory_code=0 _omnimemory_refused=0
  typeset -ga _omnimemory_ran=() _omnimemory_found=() _omnimemory_deciders=()
  typeset -gi _omnimemory_index=0
  # With times in its own history zsh does not tell the same command a second time when that is read as well.
  setopt extended_history

  # What is not to go into the history is not written down either. Whoever decides that is asked from here.
  _omnimemory_addhistory() {
    local _omnimemory_one _omnimemory_answer
    _omnimemory_refused=0
    for _omnimemory_one in "${_omnimemory_deciders[@]}"; do
      "$_omnimemory_one" "$@"
      _omnimemory_answer=$?
      (( _omnimemory_refused )) || _omnimemory_refused=$_omnimemory_answer
    done
    return $_omnimemory_refused
  }
  if (( $+functions[zshaddhistory] )); then
    functions[_omnimemory_decider]=$functions[zshaddhistory]
    unfunction zshaddhistory
    _omnimemory_deciders+=(_omnimemory_decider)
  fi
  _omnimemory_deciders+=(${zshaddhistory_functions:#})
  zshaddhistory_functions=(_omnimemory_addhistory)

  _omnimemory_preexec() {
    _omnimemory_command=''
    [[ $1 == ' '* || $_omnimemory_refused -ne 0 ]] && return 0
    [[ -n ${HISTORY_IGNORE-} && $1 == ${~HISTORY_IGNORE} ]] && return 0
    emulate -L zsh
    _omnimemory_command="${1:-$3}" _omnimemory_cwd="$PWD" _omnimemory_start="$EPOCHREALTIME"
  }

  _omnimemory_precmd() {
    local code=$? end="$EPOCHREALTIME"
    emulate -L zsh
    [[ -n $_omnimemory_command ]] || return 0
    {
      if [[ ! -e $_omnimemory_spool ]]; then
        ( umask 077; command mkdir -p -m 700 -- "$_omnimemory_folder"; : >>| "$_omnimemory_spool" )
      fi
      printf '1\0zsh\0%s\0%s\0%s\0%s\0\0%s\0%s\0\n' "$_omnimemory_session" "$code" "$_omnimemory_start" "$end" \
        "$_omnimemory_cwd" "$_omnimemory_command" >>| "$_omnimemory_spool"
    } 2>/dev/null
    _omnimemory_ran=("${(@)_omnimemory_ran[-1,-1]}" "$_omnimemory_command") _omnimemory_code=$code
    _omnimemory_command=''
    return 0
  }

  _omnimemory_suggest() {
    emulate -L zsh
    if [[ -z $BUFFER || $BUFFER != "${_omnimemory_found[_omnimemory_index]-}" ]]; then
      local outcome=--worked output
      (( _omnimemory_code )) && outcome=--failed
      if [[ -n $BUFFER ]]; then
        output="$(@PROGRAM@ search --kind commands -k 8 --null -- "$BUFFER" 2>/dev/null)"
      else
        output="$(@PROGRAM@ next $outcome -k 8 --null -- "${(@)_omnimemory_ran:#}" 2>/dev/null)"
      fi
      _omnimemory_found=("${(@0)output}")
      _omnimemory_found=("${(@)_omnimemory_found:#}") _omnimemory_index=0
    fi
    if (( ! $#_omnimemory_found )); then
      zle -M 'omnimemory: nothing to suggest'
      return 0
    fi
    (( _omnimemory_index = _omnimemory_index % $#_omnimemory_found + 1 ))
    BUFFER="${_omnimemory_found[_omnimemory_index]}"
    CURSOR=$#BUFFER
  }

  preexec_functions+=(_omnimemory_preexec)
  precmd_functions=(_omnimemory_precmd ${precmd_functions:#})
  zle -N _omnimemory_suggest
  bindkey "${OMNIMEMORY_KEY:-^X^N}" _omnimemory_suggest
fi
