//! Programs that replace a file, and what is to be told of each.

use super::{Program, nothing, replaced, replaced_with_mode, written, written_with_mode};

/// Each changes the line `two` of `x` to `three`, where it changes a text.
pub(super) const PROGRAMS: &[Program] = &[
    Program {
        name: "vim",
        needs: &["vim"],
        prepare: "",
        script: "vim -Nu NONE -i NONE -es -c 'set writebackup backupskip=' -c 's/two/three/' -c wq x",
        told: &["updated x"],
        check: replaced,
    },
    Program {
        name: "vim-in-place",
        needs: &["vim"],
        prepare: "",
        script: "vim -Nu NONE -i NONE -es -c 'set writebackup backupskip= backupcopy=yes' -c 's/two/three/' -c wq x",
        told: &["updated x"],
        check: written,
    },
    Program {
        name: "vim-with-backup",
        needs: &["vim"],
        prepare: "",
        script: "vim -Nu NONE -i NONE -es -c 'set backup backupskip=' -c 's/two/three/' -c wq x",
        told: &["updated x", "created x~"],
        check: replaced,
    },
    Program {
        name: "vim-new",
        needs: &["vim"],
        prepare: "",
        script: "vim -Nu NONE -i NONE -es -c 's/^/three/' -c wq y",
        told: &["created y"],
        check: nothing,
    },
    Program {
        name: "nano",
        needs: &["nano", "script"],
        prepare: "mkfifo $OUT/keys",
        script: "script -qfec 'nano -Ix x' /dev/null < $OUT/keys > $OUT/screen & exec 3> $OUT/keys; \
                 until grep -q two $OUT/screen; do sleep 0.1; done; \
                 printf '\\016\\013three\\r\\017\\r\\030' >&3; wait $!",
        told: &["updated x"],
        check: written,
    },
    Program {
        name: "nano-with-backup",
        needs: &["nano", "script"],
        prepare: "mkfifo $OUT/keys",
        script: "script -qfec 'nano -IBx x' /dev/null < $OUT/keys > $OUT/screen & exec 3> $OUT/keys; \
                 until grep -q two $OUT/screen; do sleep 0.1; done; \
                 printf '\\016\\013three\\r\\017\\r\\030' >&3; wait $!",
        told: &["updated x", "created x~"],
        check: written,
    },
    Program {
        name: "emacs",
        needs: &["emacs"],
        prepare: "",
        script: "emacs -Q --batch --eval '(setq backup-enable-predicate (lambda (_) t))' x \
                 --eval '(progn (while (search-forward \"two\" nil t) \
                 (replace-match \"three\")) (save-buffer))'",
        told: &["updated x", "created x~"],
        check: replaced,
    },
    Program {
        name: "sed",
        needs: &[],
        prepare: "",
        script: "sed -i s/two/three/ x",
        told: &["updated x"],
        check: replaced,
    },
    Program {
        name: "sed-with-backup",
        needs: &[],
        prepare: "",
        script: "sed -i.bak s/two/three/ x",
        told: &["updated x", "created x.bak"],
        check: replaced,
    },
    Program {
        name: "mv",
        needs: &[],
        prepare: "",
        script: "sed s/two/three/ x > new; chmod 600 new; mv -f new x",
        told: &["updated x"],
        check: replaced_with_mode,
    },
    Program {
        name: "mv-from-outside",
        needs: &[],
        prepare: "sed s/two/three/ x > $OUT/new; chmod 600 $OUT/new",
        script: "mv -f $OUT/new x",
        told: &["updated x"],
        check: replaced_with_mode,
    },
    Program {
        name: "mv-of-another-file",
        needs: &[],
        prepare: "echo other > other",
        script: "mv -f other x",
        told: &["moved x"],
        check: nothing,
    },
    Program {
        name: "cp",
        needs: &[],
        prepare: "sed s/two/three/ x > $OUT/new",
        script: "cp $OUT/new x",
        told: &["updated x"],
        check: written,
    },
    Program {
        name: "install",
        needs: &["install"],
        prepare: "sed s/two/three/ x > $OUT/new",
        script: "install -m 600 $OUT/new x",
        told: &["updated x"],
        check: written_with_mode,
    },
    Program {
        name: "rsync",
        needs: &["rsync"],
        prepare: "sed s/two/three/ x > $OUT/x; cp $OUT/x $OUT/y; chmod 600 $OUT/x",
        script: "rsync -a $OUT/x $OUT/y .",
        told: &["updated x", "created y"],
        check: replaced_with_mode,
    },
    Program {
        name: "git",
        needs: &["git"],
        prepare: "git init -q --separate-git-dir $OUT/git . && git config user.email a@b && \
                  git config user.name a && git add x && git commit -qm one && \
                  git checkout -qb other && sed -i s/two/three/ x && git commit -qam two && \
                  git checkout -q -",
        script: "git checkout -q other",
        told: &["updated x"],
        check: written,
    },
    Program {
        name: "ln",
        needs: &[],
        prepare: "ln -s one link",
        script: "ln -sfn two link",
        told: &["updated link"],
        check: nothing,
    },
    Program {
        name: "kubelet",
        needs: &[],
        prepare: "mkdir ..1; echo one > ..1/key; ln -s ..1 ..data; ln -s ..data/key key",
        script: "mkdir ..2; echo two > ..2/key; chmod 644 ..2/key; ln -s ..2 ..data_tmp; \
                 mv -fT ..data_tmp ..data; rm -r ..1",
        told: &[
            "created ..2",
            "created ..2/key",
            "updated ..data",
            "deleted ..1/key",
            "deleted ..1",
        ],
        check: nothing,
    },
    Program {
        name: "dpkg",
        needs: &["dpkg-query", "dpkg-deb"],
        prepare: "mkdir -p $OUT/p/DEBIAN $OUT/db/info $OUT/db/updates; touch $OUT/db/status; \
                  sed s/two/three/ x > $OUT/p/x; chmod 600 $OUT/p/x; \
                  printf 'Package: fim-e2e-fold\nVersion: 1\nArchitecture: all\nMaintainer: a <a@b>\n\
                  Description: a\n' > $OUT/p/DEBIAN/control; dpkg-deb -b $OUT/p $OUT/p.deb",
        script: "dpkg --instdir=$PWD --admindir=$OUT/db --log=/dev/null -i $OUT/p.deb",
        told: &["updated x"],
        check: replaced_with_mode,
    },
    Program {
        name: "rpm",
        needs: &["rpm", "rpmbuild"],
        prepare: "mkdir -p $OUT/db; sed s/two/three/ x > $OUT/new; \
                  printf 'Name: fim-e2e-fold\nVersion: 1\nRelease: 1\nSummary: a\nLicense: MIT\n\
                  BuildArch: noarch\nPrefix: /p\n%%description\na\n%%install\n\
                  mkdir -p %%{buildroot}/p; cp %s/new %%{buildroot}/p/x\n\
                  %%files\n%%attr(600,root,root) /p/x\n' $OUT > $OUT/p.spec; \
                  rpmbuild -bb --define \"_topdir $OUT\" $OUT/p.spec",
        script: "rpm -U --dbpath $OUT/db --nodeps --prefix $PWD $OUT/RPMS/noarch/*.rpm",
        told: &["updated x"],
        check: replaced_with_mode,
    },
    Program {
        name: "others",
        needs: &[],
        prepare: "",
        script: "sed s/two/three/ x > x.tmp; echo evil > evil; echo evil > gone; rm gone; \
                 mv -f x.tmp x",
        told: &["updated x", "created evil", "created gone", "deleted gone"],
        check: replaced,
    },
];
