
# Complete paths inside an image, after its name.
_daxfs_inside() {
    local name word=${COMP_WORDS[COMP_CWORD]} dir at=2
    local -a place=()
    # Options come before the image, or are where it is in the file.
    while [[ ${COMP_WORDS[at]-} == -* && $at -lt $COMP_CWORD ]]; do
        case ${COMP_WORDS[at]} in
        --offset | --image) place+=("${COMP_WORDS[@]:at:2}") at=$((at + 2)) ;;
        *) at=$((at + 1)) ;;
        esac
    done
    if [[ $COMP_CWORD -gt $at && ${COMP_WORDS[1]} =~ ^(ls|cat|stat)$ && $word != -* ]]; then
        dir=${word%"${word##*/}"} COMPREPLY=()
        while IFS= read -r name; do
            [[ $name == "${word##*/}"* ]] && COMPREPLY+=("$dir$name")
        done < <(daxfs ls -p "${place[@]}" -- "${COMP_WORDS[at]}" "/$dir" </dev/null 2>/dev/null)
        # Names are quoted. A directory is not the last word.
        compopt -o filenames 2>/dev/null
        [[ ${COMPREPLY[0]-} != */ ]] || compopt -o nospace 2>/dev/null
    else
        _daxfs "$@"
    fi
}
complete -F _daxfs_inside -o bashdefault -o default daxfs
