
# Complete paths inside an image, after its name.
function __daxfs_inside
    set -l words (commandline -opc)
    set -l dir (string match -r '^.*/' -- (commandline -ct))
    for name in (daxfs ls -- $words[3] "/$dir" 2>/dev/null)
        echo -- "$dir$name"
    end
end
complete -c daxfs -n '__fish_daxfs_using_subcommand ls cat stat; and test (count (commandline -opc)) -gt 2' -f -a '(__daxfs_inside)'
