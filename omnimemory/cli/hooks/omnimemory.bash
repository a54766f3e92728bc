# omnimemory for bash: writes down each command when it has ended; the next call of omnimemory reads it.
# Ctrl-X Ctrl-N puts a suggestion on the command line (again: the next one). Nothing is ever run by itself.
if [[ $- == *i* && -z ${_omnimemory_spool-} ]] && ((BASH_VERSINFO[0] >= 5)); then
  _omnimemory_session="$$-$EPOCHSECONDS" _omnimemory_folder=@SPOOL@
  _omnimemory_spool="$_omnimemory_folder/bash.$_omnimemory_session.spool"
  _omnimemory_start='' _omnimemory_seen='' _omnimemory_text='' _omnimemory_number=0 _omnimemory_time='' _omnimemory_code=0
  _omnimemory_cut=- _omnimemory_cwd="$PWD" _omnimemory_ran=() _omnimemory_found=() _omnimemory_index=-1
  # With times in its own history (this shows none) bash does not tell the same command a second time when that is read.
  [[ -v HISTTIMEFORMAT ]] || HISTTIMEFORMAT=''
  # A command that is run again is one more event. So bash keeps it, and the hook takes it out of the history again.
  _omnimemory_dups='' _omnimemory_control=-
  _omnimemory_keep_dups() {
    _omnimemory_dups=''
    case ":${HISTCONTROL-}:" in
      *:ignoreboth:*) HISTCONTROL="${HISTCONTROL/ignoreboth/ignorespace}" _omnimemory_dups=1 ;;
      *:ignoredups:*) HISTCONTROL="${HISTCONTROL/ignoredups/}" _omnimemory_dups=1 ;;
    esac
    _omnimemory_control="${HISTCONTROL-}"
  }

  _omnimemory_last() { # sets number, time and text of the last command in the history
    local line
    # The time tells a repeated command, for which erasedups takes the earlier one away, from none at all.
    line=$(HISTTIMEFORMAT='%s ' builtin history 1)
    _omnimemory_number=0 _omnimemory_time='' _omnimemory_text=''
    if [[ $line =~ ^\ *([0-9]+)[*\ ]\ (([0-9]+)\ |\?\?)(.*)$ ]]; then
      _omnimemory_number=${BASH_REMATCH[1]} _omnimemory_time=${BASH_REMATCH[3]} _omnimemory_text=${BASH_REMATCH[4]}
    fi
  }

  _omnimemory_prompt() {
    local code=$? end=$EPOCHREALTIME before="$_omnimemory_text" when="$_omnimemory_time" start="$_omnimemory_start"
    local took=''
    _omnimemory_start=''
    if [[ -n $start ]]; then
      _omnimemory_last
      if [[ $_omnimemory_text == [!\ ]* && "$_omnimemory_number/$_omnimemory_time/$_omnimemory_text" != "$_omnimemory_seen" ]]; then
        if [[ -n $_omnimemory_time ]] && ((start / 1000000 > _omnimemory_time + 1)); then
          # The history's time of a command of several lines is that of its first line.
          took=$(((${end/[^0-9]/} - start) / 1000)) start=$((_omnimemory_time * 1000000 + start % 1000000))
        fi
        {
          if [[ ! -e $_omnimemory_spool ]]; then
            (umask 077 && command mkdir -p -m 700 -- "$_omnimemory_folder" && : >>"$_omnimemory_spool")
          fi
          printf '1\0bash\0%s\0%s\0%s\0%s\0%s\0%s\0%s\0\n' "$_omnimemory_session" "$code" "$start" "$end" "$took" \
            "$_omnimemory_cwd" "$_omnimemory_text" >>"$_omnimemory_spool"
        } 2>/dev/null
        _omnimemory_ran=("${_omnimemory_ran[@]: -1}" "$_omnimemory_text") _omnimemory_code=$code
        if [[ -n $_omnimemory_dups && $before == "$_omnimemory_text" ]]; then
          builtin history -d "$_omnimemory_number" 2>/dev/null && ((_omnimemory_number--)) && _omnimemory_time=$when
        fi
        _omnimemory_seen="$_omnimemory_number/$_omnimemory_time/$_omnimemory_text"
      fi
    fi
    _omnimemory_cwd="$PWD"
    [[ ${HISTCONTROL-} == "$_omnimemory_control" ]] || _omnimemory_keep_dups
    [[ ${PS0-} == *"$_omnimemory_ps0"* ]] || PS0="$_omnimemory_ps0${PS0-}" # somebody has set it since
    return "$code"
  }

  _omnimemory_suggest() {
    if [[ -z $READLINE_LINE || $_omnimemory_index -lt 0 || $READLINE_LINE != "${_omnimemory_found[_omnimemory_index]-}" ]]; then
      local outcome=--worked
      ((_omnimemory_code)) && outcome=--failed
      if [[ -n $READLINE_LINE ]]; then
        mapfile -d '' -t _omnimemory_found < <(@PROGRAM@ search --kind commands -k 8 --null -- "$READLINE_LINE" 2>/dev/null)
      else
        mapfile -d '' -t _omnimemory_found < <(@PROGRAM@ next "$outcome" -k 8 --null -- "${_omnimemory_ran[@]}" 2>/dev/null)
      fi
      _omnimemory_index=-1
    fi
    ((${#_omnimemory_found[@]})) || return 0
    _omnimemory_index=$(((_omnimemory_index + 1) % ${#_omnimemory_found[@]}))
    READLINE_LINE="${_omnimemory_found[_omnimemory_index]}"
    READLINE_POINT=${#READLINE_LINE}
  }

  _omnimemory_keep_dups
  _omnimemory_last
  _omnimemory_seen="$_omnimemory_number/$_omnimemory_time/$_omnimemory_text"
  _omnimemory_ps0='${_omnimemory_cut:$((_omnimemory_start=${EPOCHREALTIME/[^0-9]/},0)):0}'
  PS0="$_omnimemory_ps0${PS0-}"
  PROMPT_COMMAND="_omnimemory_prompt${PROMPT_COMMAND:+;$PROMPT_COMMAND}"
  bind -x "\"${OMNIMEMORY_KEY:-\\C-x\\C-n}\": _omnimemory_suggest" 2>/dev/null
elif [[ $- == *i* ]] && ((BASH_VERSINFO[0] < 5)); then
  echo 'omnimemory: bash 5.0 or newer is needed to write down commands' >&2
fi
