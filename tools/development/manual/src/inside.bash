
# Complete paths inside an image, after its name.
_daxfs_inside() {
    local name word=${COMP_WORDS[COMP_CWORD]} dir
    if [[ $COMP_CWORD -gt 2 && ${COMP_WORDS[1]} =~ ^(ls|cat|stat)$ && ${COMP_WORDS[2]} != -* && $word != -* ]]; then
        dir=${word%"${word##*/}"} COMPREPLY=()
        while IFS= read -r name; do
            [[ $name == "${word##*/}"* ]] && COMPREPLY+=("$dir$name")
        done < <(daxfs ls -p -- "${COMP_WORDS[2]}" "/$dir" </dev/null 2>/dev/null)
        # Names are quoted. A directory is not the last word.
        compopt -o filenames 2>/dev/null
        [[ ${COMPREPLY[0]-} != */ ]] || compopt -o nospace 2>/dev/null
    else
        _daxfs "$@"
    fi
}
complete -F _daxfs_inside -o bashdefault -o default daxfs
