#!/bin/sh
# The last step as root, for either image: doors, user, folders, kernel.
#   finish.sh runtime|dev
set -eu
kind=$1
export PYTHONDONTWRITEBYTECODE=1

# Every program of the environment, the shells, and in dev poetry and conda, by a shim that activates first.
sed "s|@ENV_PREFIX@|$ENV_PREFIX|" /docker/shim.sh > /opt/activation/shim.sh
chmod 755 /opt/activation/shim.sh
for program in "$ENV_PREFIX"/bin/* /bin/sh /bin/bash /bin/dash /opt/poetry/bin/poetry \
    /opt/conda/bin/conda /opt/conda/bin/mamba; do
    name=${program##*/}
    if [ -x "$program" ] && [ ! -d "$program" ] && [ ! -e "/usr/local/bin/$name" ]; then
        ln -s /opt/activation/shim.sh "/usr/local/bin/$name"
    fi
done

cp /docker/activate.sh /docker/user.sh /opt/activation/
sed -i "1i ENV_PREFIX=$ENV_PREFIX; export ENV_PREFIX" /opt/activation/activate.sh

# Login shells lose ENV: /etc/profile sets PATH anew.
cat > /etc/profile.d/activate.sh << 'END'
PATH=/usr/local/bin:$PATH
unset ACTIVATED_PREFIX
. /opt/activation/activate.sh
END
# Interactive shells: conda as a function where there is a conda, and the prompt says where one is.
cat >> /etc/bash.bashrc << 'END'

. /opt/activation/activate.sh
. /opt/conda/etc/profile.d/conda.sh
case "$PS1" in
    "$CONDA_PROMPT_MODIFIER"*) ;;
    *) PS1="${CONDA_PROMPT_MODIFIER-}$PS1" ;;
esac
END
if [ "$kind" = runtime ]; then
    mkdir -p /opt/conda/etc/profile.d
    cp /docker/conda.sh /opt/conda/etc/profile.d/conda.sh
fi

# One user, 1000, in images that may have had another of that number, with a home that any uid of
# group 0 can use. No files from /etc/skel: they would activate conda's base environment.
if other=$(getent passwd 1000); then
    userdel --remove "${other%%:*}" 2> /dev/null
fi
getent group 1000 > /dev/null || groupadd --gid 1000 app
useradd --uid 1000 --gid 1000 --no-create-home --home-dir /home/app --shell /bin/bash app
install -d -o 1000 -g 0 -m 2770 /home/app
install -d -o 1000 -g 0 -m 2775 /work
if [ -f /root/.bashrc ]; then
    : > /root/.bashrc
fi

if [ -f /docker/kernel.json ]; then
    "$ENV_PREFIX/bin/python" /docker/register_kernel.py --kernel /docker/kernel.json \
        --variables /opt/activation/variables.json --environment "$ENV_PREFIX"
fi

# From here on the recording is fresh.
touch /opt/activation/stamp
