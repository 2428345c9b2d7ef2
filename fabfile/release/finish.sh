# FINISH TREE OWNER ID APP DOCROOT ROOM... -- SHARED...: what surrounds the files that came.
owner=$2
as_owner sh -ceu '
umask 022
tree=$1 release=$1/releases/$3 app=$4 docroot=$5
shift 5
base=$release${app:+/$app}
[ -z "$app" ] || ln -s -- "$app${docroot:+/$docroot}" "$release/_"
while [ "$1" != -- ]; do
    [ -e "$release/$1" ] || [ -L "$release/$1" ] || ln -s -- _ "$release/$1"
    shift
done
shift
for path do
    store=$tree/shared/$path here=$base/$path
    if [ ! -e "$store" ] && [ ! -L "$store" ]; then
        mkdir -p -- "${store%/*}"
        rm -rf -- "$store.new"
        for former in "$tree/public_html/_app/$path" "$tree/public_html/$path" "$tree/public_html/_/$path"; do
            [ -e "$former" ] && [ ! -L "$former" ] && cp -a -- "$former" "$store.new" && break
        done
        if [ -e "$store.new" ]; then mv -T -- "$store.new" "$store"
        elif [ -e "$here" ] && [ ! -L "$here" ]; then mv -T -- "$here" "$store"
        else mkdir -- "$store"
        fi
    fi
    rm -rf -- "$here"
    mkdir -p -- "${here%/*}"
    ln -srT -- "$store" "$here"
done' finish "$@"
