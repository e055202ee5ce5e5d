
# Print the arguments before the last word that are no options.
function __daxfs_arguments
    string match -v -- '-*' (commandline -opc)
end

# Complete paths inside an image, after its name.
function __daxfs_inside
    set -l words (__daxfs_arguments)
    set -l dir (string match -r '^.*/' -- (commandline -ct))
    for name in (daxfs ls -p -- $words[3] "/$dir" </dev/null 2>/dev/null)
        echo -- "$dir$name"
    end
end
complete -c daxfs -n '__fish_daxfs_using_subcommand ls cat stat; and test (count (__daxfs_arguments)) -gt 2' -f -a '(__daxfs_inside)'
