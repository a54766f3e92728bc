# omnimemory for fish: writes down each command when it has ended; the next call of omnimemory reads it.
# Ctrl-X Ctrl-N puts a suggestion on the command line (again: the next one). Nothing is ever run by itself.
if status is-interactive; and not set -q _omnimemory_spool
    set -g _omnimemory_folder @SPOOL@
    set -g _omnimemory_session "$fish_pid-"(random)
    set -g _omnimemory_spool "$_omnimemory_folder/fish.$_omnimemory_session.spool"
    set -g _omnimemory_ran
    set -g _omnimemory_found
    set -g _omnimemory_index 0
    set -g _omnimemory_code 0
    set -g _omnimemory_number (random 1 400000)
    set -g _omnimemory_start

    function _omnimemory_preexec --on-event fish_preexec
        set -g _omnimemory_start
        if test -z "$argv[1]"; or set -q fish_private_mode; or string match -q ' *' -- "$argv[1]"
            return
        end
        if functions -q fish_should_add_to_history; and not fish_should_add_to_history "$argv[1]"
            return
        end
        if not test -e $_omnimemory_spool
            sh -c 'umask 077; mkdir -p -m 700 -- "$1"; : >>"$2"' sh $_omnimemory_folder $_omnimemory_spool 2>/dev/null
        end
        # fish has no clock of its own: the time of the file that was just written is the time, and a number that
        # grows makes two commands in one second two. The file may be taken away at any time, so the newline is no
        # part of a record.
        echo 2>/dev/null >>$_omnimemory_spool
        set -l now (path mtime -- $_omnimemory_spool 2>/dev/null; or date +%s)
        set -g _omnimemory_number (math $_omnimemory_number % 499999 + 1)
        set -g _omnimemory_start $now.(string sub -s -6 000000$_omnimemory_number)
        set -g _omnimemory_cwd $PWD
    end

    function _omnimemory_postexec --on-event fish_postexec
        set -l code $status
        set -l took $CMD_DURATION
        if test -z "$_omnimemory_start"
            return
        end
        printf '1\0fish\0%s\0%s\0%s\0\0%s\0%s\0%s\0\n' $_omnimemory_session $code $_omnimemory_start "$took" \
            "$_omnimemory_cwd" "$argv[1]" 2>/dev/null >>$_omnimemory_spool
        set -g _omnimemory_start
        set -g _omnimemory_ran $_omnimemory_ran[-1] $argv[1]
        set -g _omnimemory_code $code
    end

    function _omnimemory_suggest
        set -l line (commandline | string collect)
        if test -z "$line"; or test $_omnimemory_index -eq 0; or test "$line" != "$_omnimemory_found[$_omnimemory_index]"
            set -l outcome --worked
            test $_omnimemory_code -ne 0; and set outcome --failed
            if test -n "$line"
                set -g _omnimemory_found (@PROGRAM@ search --kind commands -k 8 --null -- "$line" 2>/dev/null | string split0)
            else
                set -g _omnimemory_found (@PROGRAM@ next $outcome -k 8 --null -- $_omnimemory_ran 2>/dev/null | string split0)
            end
            set -g _omnimemory_index 0
        end
        if test (count $_omnimemory_found) -gt 0
            set -g _omnimemory_index (math $_omnimemory_index % (count $_omnimemory_found) + 1)
            commandline -r -- $_omnimemory_found[$_omnimemory_index]
        end
    end

    set -q OMNIMEMORY_KEY; or set -l OMNIMEMORY_KEY \cx\cn
    bind $OMNIMEMORY_KEY _omnimemory_suggest
end
